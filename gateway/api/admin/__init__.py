"""One module for each group of admin calls; `gateway.api.admin_app` puts them together."""
