"""The doors for people and clients: the serving API, the admin API, the status page. Only here live HTTP statuses."""
