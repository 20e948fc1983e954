"""The dashboard: made by `dashboard.py`, drawn without Grafana by `render.py`."""
