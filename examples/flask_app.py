"""A web application on Flask: programs submit edits with a token, and a webhook brings the results into a folder.

    pip install flask 'diffedit-service[web]'
    export $(diffedit env)              # also the secret and the allowed addresses of webhooks, in `diffedit up --web`
    flask --app examples/flask_app.py run

    curl -H "Authorization: Bearer ada-token" -F image=@bowl.png -F source="a bowl of fruits" \\
        -F target="a bowl of pears" localhost:5000/edits
"""

from pathlib import Path

from flask import Flask, abort, request, send_file, url_for
from standardwebhooks import Webhook, WebhookVerificationError

from diffedit import Client, DiffEditError

USERS = {"ada-token": "ada", "grace-token": "grace"}
RESULTS = Path("results").resolve()
app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 33 * 2**20
client = Client.from_env()


def current_user() -> str:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return USERS.get(token) or abort(401)


@app.errorhandler(DiffEditError)
def refuse(error: DiffEditError) -> tuple[dict[str, str], int]:
    return {"error": error.code, "detail": error.public_message}, error.http_status


@app.post("/edits")
def submit() -> tuple[dict[str, str], int]:
    owner, texts = current_user(), {"source_prompt": request.form["source"], "target_prompt": request.form["target"]}
    hook = url_for("receive", owner=owner, _external=True)
    job = client.for_owner(owner).edit(request.files["image"].stream, **texts, webhook=hook)
    return {"id": job.id, "status": url_for("show", job_id=job.id), "picture": url_for("picture", job_id=job.id)}, 202


@app.get("/edits/<job_id>")
def show(job_id: str) -> dict[str, object]:
    status = client.for_owner(current_user()).job(job_id).status()
    return {"state": status.state, "progress": status.progress, "error": status.error and status.error.code}


@app.get("/edits/<job_id>/picture")
def picture(job_id: str) -> object:
    status = client.for_owner(current_user()).job(job_id).status()  # raises JobNotFound for another user
    file = RESULTS / status.id / "result.png"
    return send_file(file) if file.exists() else abort(404)


@app.post("/hooks/<owner>")
def receive(owner: str) -> tuple[str, int]:
    for secret in client.webhook_secrets(owner):
        try:
            event = Webhook(secret).verify(request.get_data(), dict(request.headers))
        except WebhookVerificationError:
            continue
        if event["type"] == "edit.succeeded":  # it may come twice, and is then saved twice
            client.for_owner(owner).job(event["data"]["id"]).result().save(RESULTS / event["data"]["id"])
        return "", 204
    abort(401)
