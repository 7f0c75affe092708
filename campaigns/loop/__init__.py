"""The verbs of a campaign: outcomes, forecast, ranking, proposing, fine-tuning, backtest."""
