from django.apps import AppConfig


class BackupsConfig(AppConfig):
    name = "backups"

    def ready(self) -> None:
        from backups import restoring
        from backups.servers import landing_servers, reaching, server_scripts
        from regions import secrets

        secrets.register("backups.Instance", "sealed_password", reaching.identity_of)
        secrets.register("backups.LandingServer", "sealed_password", landing_servers.identity_of)
        secrets.register("backups.Restore", "sealed_password", restoring.identity_of)
        secrets.register("backups.ServerScript", "sealed", server_scripts.identity_of)
