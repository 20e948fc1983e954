"""Mistakes that mypy and pyright must both report, one in each line that is marked. `test_wheel.py` checks it."""

from diffedit import AsyncClient, AsyncJobHandle, Client


def mistakes(client: Client) -> None:
    client.edit("bowl.png", target_prompt="a basket", num_inference_step=10)  # wrong: a misspelt name
    client.edit("bowl.png", target_prompt="a basket", strength="0.5")  # wrong: a text for a number
    client.edit("bowl.png", target_prompt="a basket", lane="fast")  # wrong: there is no such lane
    client.edit(7, target_prompt="a basket")  # wrong: a number is not a picture
    client.preview_mask("bowl.png", target_prompt="a basket", scheduler="euler")  # wrong: no such scheduler
    client.edit_many("bowl.png", [{"target": "a basket"}])  # wrong: a misspelt name in one of several edits
    client.edit_many("bowl.png", ["a basket"], seed="1")  # wrong: a text for a number, for all edits
    client.map([{"picture": "bowl.png"}], in_flight="4")  # wrong: a text for a number
    client.map(["bowl.png"])  # wrong: a row is a mapping
    print(client.edit("bowl.png", target_prompt="a basket").wait().state.name.nothing)  # wrong: no such attribute


async def mistakes_with_asyncio(client: AsyncClient, job: AsyncJobHandle) -> None:
    await client.edit("bowl.png", target_prompt="a basket", num_inference_step=10)  # wrong: a misspelt name
    await client.edit("bowl.png", target_prompt="a basket", strength="0.5")  # wrong: a text for a number
    await client.edit(7, target_prompt="a basket")  # wrong: a number is not a picture
    await client.edit_many("bowl.png", ["a basket"], seed="1")  # wrong: a text for a number, for all edits
    await client.jobs(limit="10")  # wrong: a text for a number
    client.results([job.id])  # wrong: an id is no job
    await job.retry(key="again")  # wrong: a misspelt name
    async for status in job.watch(heartbeat="15"):  # wrong: a text for a number
        print(status.state)
    print((await job.cancel()).state)  # wrong: no such attribute
    print((await (await job.result()).image()).nothing)  # wrong: no such attribute
    print(job.status().state)  # wrong: it is not awaited
