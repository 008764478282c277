from django.apps import AppConfig


class BackupsConfig(AppConfig):
    name = "backups"

    def ready(self) -> None:
        from backups import default_backups, restoring
        from regions import secrets

        secrets.register("backups.Instance", "sealed_password", default_backups.identity_of)
        secrets.register("backups.Restore", "sealed_password", restoring.identity_of)
