"""A web application on Django: users log in, upload a picture, and see how their edit goes on.

pip install django diffedit-service
export $(diffedit env)
python examples/django_app.py migrate
python examples/django_app.py createsuperuser
python examples/django_app.py runserver
"""

import secrets
import sys

import django
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import include, path

from diffedit import Client, DiffEditError, State

LOGIN = "<form method=post>{% csrf_token %}{{ form }}<button>Log in</button></form>"
NEW = """<p role=alert>{{ error }}</p><form method=post enctype=multipart/form-data>{% csrf_token %}
<label>Picture <input type=file name=image required></label> <label>It shows <input name=source required></label>
<label>It shall show <input name=target required></label> <button>Edit</button></form>"""
SHOW = """{% if not status.is_terminal %}<meta http-equiv=refresh content=2>{% endif %}<p>{{ status.state.value }}
{{ status.error.code }}</p>{% if link %}<img src="{{ link }}" alt="{{ status.state.value }}">{% endif %}"""
AUTH = "django.contrib.auth.urls"
PAGES = {"registration/login.html": LOGIN, "new.html": NEW, "show.html": SHOW}
LOADERS = [("django.template.loaders.locmem.Loader", PAGES)]
settings.configure(
    SECRET_KEY=secrets.token_hex(),  # a restart logs everybody out
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    LOGIN_REDIRECT_URL="/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django_app.sqlite3"}},
    INSTALLED_APPS=[f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions")],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": LOADERS}}],
)
django.setup()
client = Client.from_env()


@login_required
def new(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return render(request, "new.html")
    texts = {"source_prompt": request.POST.get("source"), "target_prompt": request.POST.get("target")}
    try:
        job = client.for_owner(str(request.user.pk)).edit(request.FILES.get("image"), **texts)
    except DiffEditError as error:
        return render(request, "new.html", {"error": error.public_message}, status=error.http_status)
    return redirect("show", job.id)


@login_required
def show(request: HttpRequest, job_id: str) -> HttpResponse:
    try:
        job = client.for_owner(str(request.user.pk)).job(job_id)
        status = job.status()
        link = job.result().url() if status.state is State.SUCCEEDED else None
    except DiffEditError as error:  # also JobNotFound: there is none, or it is another user's
        return HttpResponse(error.public_message, status=error.http_status)
    return render(request, "show.html", {"status": status, "link": link})


urlpatterns = [path("", new), path("edits/<str:job_id>/", show, name="show"), path("accounts/", include(AUTH))]
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
