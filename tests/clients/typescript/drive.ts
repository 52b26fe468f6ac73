// Drives the client that openapi-typescript and openapi-fetch make, through the main job. What is asserted
// here is what the types promise and the server must keep.

import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

const { CROWNEST_URL, CROWNEST_API_KEY } = process.env;
assert(CROWNEST_URL && CROWNEST_API_KEY, "CROWNEST_URL and CROWNEST_API_KEY say where and who");

const client = createClient<paths>({
  baseUrl: CROWNEST_URL,
  headers: { Authorization: `Bearer ${CROWNEST_API_KEY}` },
});

type Refusal = components["schemas"]["ErrorEnvelope"];

/** The body of an answer that must be a success. */
function good<T>(answer: { data?: T; error?: Refusal; response: Response }): T {
  const { data, error, response } = answer;
  assert(data !== undefined, `${response.url} answered ${response.status}: ${error?.error.message}`);
  return data;
}

async function live(): Promise<number> {
  const { quotas } = good(await client.GET("/v1/usage"));
  assert.equal(quotas.active_sandboxes.resetAt, null);
  return quotas.active_sandboxes.current;
}

async function main(): Promise<void> {
  assert.equal(await live(), 0);

  const create = {
    params: { header: { "Idempotency-Key": "typescript" } },
    body: { template: "python", ttlMs: 600_000, metadata: { by: "typescript" } },
  };
  const { sandbox } = good(await client.POST("/v1/sandboxes", create));
  assert.equal(sandbox.metadata["by"], "typescript");
  const repeated = good(await client.POST("/v1/sandboxes", create));
  assert.equal(repeated.sandbox.id, sandbox.id);
  assert.equal(await live(), 1);
  console.log(`create  ${sandbox.id}`);

  const path = { sandboxId: sandbox.id };
  await client.PUT("/v1/sandboxes/{sandboxId}/files", {
    params: { path },
    body: { path: "answer.py", content: "print(6 * 7)\n" },
  }).then(good);
  const { command } = good(
    await client.POST("/v1/sandboxes/{sandboxId}/commands", {
      params: { path },
      body: { command: "python3 answer.py | tee answer.txt" },
    }),
  );
  assert.deepEqual([command.status, command.exitCode, command.stdout], ["exited", 0, "42\n"]);
  console.log(`run     ${command.command} -> ${command.exitCode}`);

  const events = good(
    await client.GET("/v1/commands/{commandId}/stream", {
      params: { path: { commandId: command.id } },
      parseAs: "text",
    }),
  );
  assert.match(events, /^event: log$/m);
  assert.match(events, /^event: terminal$/m);

  const read = (name: string) =>
    client.GET("/v1/sandboxes/{sandboxId}/files/read", {
      params: { path, query: { path: name } },
    });
  const file = good(await read("answer.txt"));
  assert.deepEqual([file.content, file.encoding, file.sizeBytes], ["42\n", "utf8", 3]);
  console.log(`read    ${file.path}`);

  const missing = await read("nowhere.txt");
  assert.equal(missing.response.status, 404);
  assert.equal(missing.error?.error.code, "file_not_found");
  const noLimit = await client.GET("/v1/sandboxes", { params: { query: { limit: 0 } } });
  assert.equal(noLimit.error?.error.details?.["field"], "limit");

  const killed = good(await client.DELETE("/v1/sandboxes/{sandboxId}", { params: { path } }));
  assert.equal(killed.sandbox.status, "destroyed");
  assert.equal(killed.sandbox.destroyedReason, "user_killed");
  console.log(`kill    ${killed.sandbox.destroyedReason}`);

  assert.equal(await live(), 0);
  const { credits, events: counted } = good(await client.GET("/v1/usage"));
  assert(counted.some((event) => event.metric === "command_invocations"));
  console.log(`usage   ${credits.used} credits`);
}

await main();
