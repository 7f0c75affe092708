"""A campaign that a server holds, from Python: the verbs of :class:`campaigns.campaign.Campaign` over HTTP."""
