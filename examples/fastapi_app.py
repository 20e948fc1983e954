"""A web application with users, in which each user edits pictures: FastAPI with the routes of diffedit.

    pip install 'diffedit-service[web]'
    uvicorn --app-dir examples fastapi_app:app

    curl -u ada:secret -F image=@bowl.png -F source_prompt="a bowl of fruits" -F target_prompt="a bowl of pears" \\
        localhost:8000/api/v1/edits
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from diffedit import AsyncClient
from diffedit_web import diffedit_router

PASSWORDS = {"ada": "secret", "grace": "hopper"}
client = AsyncClient.from_env()


def current_user(login: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    password = PASSWORDS.get(login.username, secrets.token_hex())
    if not secrets.compare_digest(password.encode(), login.password.encode()):
        raise HTTPException(401, "wrong name or password", {"WWW-Authenticate": "Basic"})
    return login.username


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(diffedit_router(client, owner=current_user), prefix="/api")
