"""Settings: the environment in, or a loud refusal. The same code runs embedded, in production and in tests."""

from __future__ import annotations

from pathlib import Path

from console.runtime import places, variables
from console.tabs import tabs

BASE_DIR = places.CLONE

# --- Farshore's own -----------------------------------------------------------------------------------------------

FARSHORE_DATA: Path = places.data_folder()
FARSHORE_KEYS = Path(variables.text("FARSHORE_KEYS", str(FARSHORE_DATA / "keys")))
FARSHORE_ALLOW_LOOPBACK = variables.flag("FARSHORE_ALLOW_LOOPBACK")
FARSHORE_ALLOWED_NETWORKS = variables.words("FARSHORE_ALLOWED_NETWORKS")
LEASE_SECONDS = variables.number("LEASE_SECONDS", 90, least=5)
SLICE_SECONDS = variables.number("SLICE_SECONDS", 60, least=1)
SWEEP_SECONDS = variables.number("SWEEP_SECONDS", 15, least=1)
PURGE_GRACE_SECONDS = 86_400  # a limit of the product, never a switch
PARTS_IN_FLIGHT = variables.number("PARTS_IN_FLIGHT", 4, least=1, most=64)
BACKUPS_AT_ONCE = variables.number("BACKUPS_AT_ONCE", 2, least=1, most=64)  # per worker process
RESTORES_AT_ONCE = variables.number("RESTORES_AT_ONCE", 2, least=1, most=64)  # per machine, ready servers not counted
RESTORE_ONTO_EXISTING = variables.flag("RESTORE_ONTO_EXISTING")  # copies onto instances of their region
RESTORE_ADDRESS = variables.address("RESTORE_ADDRESS", "127.0.0.1")  # where restored servers listen
DRILLS_AT_ONCE = variables.number("DRILLS_AT_ONCE", 1, least=1, most=64)  # per worker process
SELF_BACKUP_REGION = variables.text("SELF_BACKUP_REGION")  # whose store keeps the dumps of our own database
LOG_STREAMS_AT_ONCE = variables.number("LOG_STREAMS_AT_ONCE", 20, least=1, most=200)  # per receiving process
LOG_FLUSH_SECONDS = variables.number("LOG_FLUSH_SECONDS", 10, least=1, most=3600)  # logs leave a server this often
SNAPSHOT_HOOK = variables.absolute_path("SNAPSHOT_HOOK")  # the site's program that has its storage take snapshots
SNAPSHOT_ROOT = variables.absolute_path("SNAPSHOT_ROOT")  # below which that program shows what was frozen
SNAPSHOT_SECONDS = variables.number("SNAPSHOT_SECONDS", 60, least=5, most=600)  # the longest that writes wait for it
SECOND_READ = variables.choice("SECOND_READ", ("folder", "always", "never"), "folder")
DOWNLOAD_LINK_SECONDS = variables.number("DOWNLOAD_LINK_SECONDS", 900, least=60, most=86_400)
DOWNLOADS_AT_ONCE = variables.number("DOWNLOADS_AT_ONCE", 8, least=1, most=256)  # per web process, beside its pages
ACCEL = variables.folder_and_location("FARSHORE_ACCEL")  # what a proxy hands out by X-Accel-Redirect
GB = 2**30
API_CALLS_PER_MINUTE = variables.number("API_CALLS_PER_MINUTE", 3000, least=1, most=10_000_000)  # of one access key
METRICS_TOKEN = variables.text("METRICS_TOKEN")  # who reads /metrics brings it; without it there are none
FREE_DOWNLOAD_GB = variables.number("FREE_DOWNLOAD_GB", 500, least=0)  # per instance and UTC month
STATEMENT_CLOSES_HOURS = variables.number("STATEMENT_CLOSES_HOURS", 6, least=1, most=240)  # after the month's end
ALERT_RECIPIENTS = variables.words("FARSHORE_ALERT_RECIPIENTS")

# --- The web ------------------------------------------------------------------------------------------------------

PUBLIC = variables.public_address("PUBLIC_URL")
PUBLIC_URL = PUBLIC.geturl().rstrip("/") if PUBLIC else ""
INTERNAL = variables.public_address("INTERNAL_URL")  # where downloads are free; without PUBLIC_URL we are inside
INTERNAL_URL = INTERNAL.geturl().rstrip("/") if INTERNAL else ""
IS_HTTPS = bool(PUBLIC and PUBLIC.scheme == "https")
if IS_HTTPS and INTERNAL and INTERNAL.scheme != "https":
    raise variables.refuse("INTERNAL_URL", "it must begin with https:// as PUBLIC_URL does")

DEBUG = variables.flag("FARSHORE_DEBUG")
SECRET_KEY = places.secret_key(FARSHORE_DATA)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *variables.words("FARSHORE_HOSTS")]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC else []
ALLOWED_HOSTS += [ours.hostname for ours in (PUBLIC, INTERNAL) if ours and ours.hostname]

ROOT_URLCONF = "console.urls"
WSGI_APPLICATION = "console.wsgi.application"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "django_tables2",
    "lucide",
    "allauth",
    "allauth.account",
    "regions",
    "backups",
    "billing",
    "console",
    *(f"console.{tab}" for tab in tabs()),
]

MIDDLEWARE = [
    "console.headers.StrictHeaders",
    "console.openapi.door.Door",  # before all of Django's: no signed call meets CSRF, redirects or host checks
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.widgets.sign_in_first.SignInFirst",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.widgets.shell.shell",
            ]
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS.append("django.forms")

STATIC_URL = "static/"
STATIC_ROOT = FARSHORE_DATA / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

SESSION_COOKIE_NAME, CSRF_COOKIE_NAME, LANGUAGE_COOKIE_NAME = "farshore_session", "farshore_csrf", "farshore_language"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "console.widgets.sign_in_first.form_expired"
X_FRAME_OPTIONS = "DENY"
if IS_HTTPS:
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^(health|healthz|readyz|metrics)$"]
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 86_400
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True

# --- People -------------------------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "account_login", "/", "account_login"
ACCOUNT_ADAPTER = "console.sign_in.InvitedOnly"
ACCOUNT_FORMS = {"login": "console.sign_in_form.SignInForm"}
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Farshore] "
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # nobody gets mail from us because a stranger typed their address
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if IS_HTTPS else "http"

# Eight web threads in two processes share what they count, or a rate limit would be eight limits.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "console_cache"}}

# --- The database -------------------------------------------------------------------------------------------------

DATABASE = variables.database_address(
    "DATABASE_URL", variables.text("DATABASE_URL", places.embedded_database_url(FARSHORE_DATA))
)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE.name,
        "HOST": DATABASE.host,
        "PORT": DATABASE.port,
        "USER": DATABASE.user,
        "PASSWORD": DATABASE.password,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": "5", "application_name": "farshore", **DATABASE.options},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The broker ---------------------------------------------------------------------------------------------------

BROKER_URL = variables.broker_address(
    "BROKER_URL", variables.text("BROKER_URL", places.embedded_broker_url(FARSHORE_DATA))
)

# --- Words, times, mail -------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = ["console.formats"]
LANGUAGE_COOKIE_AGE = 365 * 86_400
LANGUAGE_COOKIE_HTTPONLY, LANGUAGE_COOKIE_SAMESITE = True, "Lax"
USE_I18N = USE_TZ = True
TIME_ZONE = "UTC"

EMAIL_HOST = variables.text("EMAIL_HOST")
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'dummy'}.EmailBackend"  # never a log (I18)
if ALERT_RECIPIENTS and not EMAIL_HOST:
    raise variables.refuse("FARSHORE_ALERT_RECIPIENTS", "mail to anybody needs EMAIL_HOST")
EMAIL_PORT = variables.number("EMAIL_PORT", 25, least=1, most=65_535)
EMAIL_HOST_USER = variables.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = variables.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = variables.flag("EMAIL_USE_TLS")
EMAIL_USE_SSL = variables.flag("EMAIL_USE_SSL")
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = variables.text("EMAIL_FROM", "farshore@localhost")

# --- Logs ---------------------------------------------------------------------------------------------------------

LOG_FORMAT = variables.choice("FARSHORE_LOG", ("lines", "json"), "lines")
LOG_LEVEL = variables.choice("FARSHORE_LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": "console.logs.Lines"}, "json": {"()": "console.logs.JsonLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "filters": {"unexcited": {"()": "console.logs.Unexcited"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.request": {"filters": ["unexcited"], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        "gunicorn": {"handlers": [], "propagate": True},
        "gunicorn.access": {"handlers": [], "propagate": False},  # addresses may hold download tokens
        # A line for every ring of every sweep would drown what matters.
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "boto3": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
