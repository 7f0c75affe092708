"""The verbs of a campaign over HTTP, and the page that calls them; needs the extra ``server``."""
