//! Drives the client that progenitor makes, through the main job. What is asserted here is what the types
//! promise and the server must keep.

use std::{collections::HashMap, env, fmt::Debug};

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::TryStreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap};

use generated_client::{Client, Error, types};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = connect()?;
    ensure!(live(&client).await? == 0);

    let sandbox = create(&client).await?;
    ensure!(live(&client).await? == 1);
    println!("create  {}", sandbox.id.as_str());

    let id = sandbox.id.as_str();
    let write = client.write_file().sandbox_id(id);
    write.body_map(|body| body.path("answer.py").content("print(6 * 7)\n")).send().await?;
    let run = client.run_command().sandbox_id(id);
    let run = run.body_map(|body| body.command("python3 answer.py | tee answer.txt"));
    let command = run.send().await?.into_inner().command;
    ensure!(command.status == types::CommandStatus::Exited, "{command:?}");
    ensure!(command.exit_code == Some(0) && command.stdout.as_deref() == Some("42\n"));
    println!("run     {} -> 0", command.command);

    let stream = client.stream_command_logs().command_id(command.id.as_str()).send().await?;
    let pieces: Vec<_> = stream.into_inner_stream().try_collect().await?;
    let events = String::from_utf8(pieces.concat())?;
    ensure!(events.contains("\nevent: terminal\n"), "{events}");

    let file = client.read_file().sandbox_id(id).path("answer.txt").send().await?.into_inner();
    ensure!(file.encoding == types::ReadFileResponseEncoding::Utf8);
    ensure!(file.content == "42\n" && file.size_bytes == 3, "{file:?}");
    println!("read    {}", file.path);

    let missing = client.read_file().sandbox_id(id).path("nowhere.txt").send().await;
    ensure!(refused(missing)?.code == "file_not_found");

    let killed = client.kill_sandbox().sandbox_id(id).send().await?.into_inner().sandbox;
    ensure!(killed.status == types::SandboxStatus::Destroyed, "{killed:?}");
    ensure!(killed.destroyed_reason == Some(types::SandboxDestroyedReason::UserKilled));
    println!("kill    user_killed");

    ensure!(live(&client).await? == 0);
    let usage = client.get_usage().send().await?.into_inner();
    let counts =
        |event: &types::UsageEvent| event.metric == types::UsageEventMetric::CommandInvocations;
    ensure!(usage.events.iter().any(counts), "{usage:?}");
    println!("usage   {} credits", usage.credits.used);
    Ok(())
}

fn connect() -> Result<Client> {
    let (url, key) = (env::var("CROWNEST_URL")?, env::var("CROWNEST_API_KEY")?);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {key}").parse()?);
    let http = reqwest::Client::builder().default_headers(headers).no_proxy().build()?;
    Ok(Client::new_with_client(&url, http))
}

/// Makes a sandbox, and asks again as after a lost answer.
async fn create(client: &Client) -> Result<types::Sandbox> {
    let metadata = HashMap::from([("by".to_owned(), "rust".parse()?)]);
    let body: types::CreateSandboxBody = types::CreateSandboxBody::builder()
        .template("python".to_owned())
        .ttl_ms(std::num::NonZeroU64::new(600_000))
        .metadata(metadata)
        .try_into()?;
    let ask = || client.create_sandbox().idempotency_key("rust").body(body.clone()).send();
    let made = ask().await?.into_inner().sandbox;
    let again = ask().await?.into_inner().sandbox;
    ensure!(made.id == again.id, "one key, one sandbox");
    ensure!(made.metadata.get("by").map(String::as_str) == Some("rust"));
    Ok(made)
}

/// Live sandboxes, as the usage counts them.
async fn live(client: &Client) -> Result<u64> {
    let quota = client.get_usage().send().await?.into_inner().quotas.active_sandboxes;
    ensure!(quota.reset_at.is_none());
    Ok(quota.current)
}

/// The error of an answer that must be a refusal.
fn refused<T: Debug>(answer: Result<T, Error<types::ErrorEnvelope>>) -> Result<types::Error> {
    match answer {
        Err(Error::ErrorResponse(response)) => Ok(response.into_inner().error),
        other => Err(anyhow!("no refusal: {other:?}")).context("a refusal was due"),
    }
}
