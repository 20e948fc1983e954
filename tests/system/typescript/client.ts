// A client that is generated from docs/openapi.json: what is right compiles, and what is wrong does not.

import createClient from "openapi-fetch";
import type { components, paths } from "./api";

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000", headers: { Authorization: "Bearer KEY" } });

export async function edit(uploaded: string): Promise<components["schemas"]["Edit"]> {
  const { data, error, response } = await client.POST("/v1/edits", {
    body: { uploaded, source_prompt: "a bowl of fruits", target_prompt: "a bowl of pears", seed: 7, tags: { album: "9" } },
    params: { header: { "Idempotency-Key": "order-17", Prefer: "wait=30" } },
  });
  if (!data) throw new Error(`${response.status} ${error.code}: ${error.detail}`);
  return data;
}

export async function pages(): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | null | undefined;
  do {
    const { data } = await client.GET("/v1/edits", { params: { query: { state: "succeeded", limit: 100, cursor } } });
    ids.push(...(data?.data ?? []).map((each) => each.id));
    cursor = data?.next_cursor;
  } while (cursor);
  return ids;
}

export async function upload(file: File): Promise<string | undefined> {
  const { data } = await client.POST("/v1/uploads", { body: { content_type: "image/png", size: file.size } });
  return data && data.method === "PUT" ? data.key : undefined;
}

export async function others(edit_id: string): Promise<number | undefined> {
  const params = { path: { edit_id } };
  await client.POST("/v1/edits/{edit_id}/cancel", { params });
  await client.POST("/v1/edits/{edit_id}/retry", { params });
  await client.DELETE("/v1/edits/{edit_id}", { params });
  await client.GET("/v1/edits/{edit_id}/result", { params: { ...params, query: { inline: "1" } }, parseAs: "blob" });
  const { data } = await client.GET("/v1/health");
  return data?.workers;
}

export async function wrong(): Promise<void> {
  // @ts-expect-error: there is no such path
  await client.GET("/v1/jobs");
  // @ts-expect-error: a body names an upload
  await client.POST("/v1/edits", { body: { target_prompt: "a bowl of pears" } });
  // @ts-expect-error: a strength is a number
  await client.POST("/v1/edits", { body: { uploaded: "x", strength: "much" } });
  // @ts-expect-error: there is no such state
  await client.GET("/v1/edits", { params: { query: { state: "finished" } } });
}
