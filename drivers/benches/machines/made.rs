//! What is measured of a machine, whoever made it: the way to its first command, and what it costs to keep.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use drivers::{
    contract::sandbox::command,
    guest::{Guest, WatchItem},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A way to make machines.
#[async_trait]
pub trait Maker: Sync {
    /// What the rows call it.
    fn name(&self) -> &'static str;

    /// Has all there that is made ahead.
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Makes one; it is up when this returns.
    async fn create(&self) -> Result<Box<dyn Made>>;
}

/// A machine that is up.
#[async_trait]
pub trait Made: Send + Sync {
    /// A connection to its agent.
    fn guest(&self) -> &Guest;

    /// Whether it began as machines of its maker should; figures of others say nothing.
    fn is_typical(&self) -> bool {
        true
    }

    /// The ids of all processes that it takes.
    fn processes(&self) -> Result<Vec<u32>>;

    /// Writes it down and ends its processes.
    async fn suspend(&mut self) -> Result<()>;

    /// Has it go on; it is up when this returns.
    async fn wake(&mut self) -> Result<()>;

    /// Ends it, and leaves nothing.
    async fn remove(self: Box<Self>) -> Result<()>;
}

/// Runs a command that does nothing to its end.
#[tracing::instrument(name = "command", skip_all)]
pub async fn run(guest: &Guest) -> Result<()> {
    let command = command("true");
    let id = command.id;
    let running = async {
        guest.start(command).await?;
        let mut items = guest.watch(id, 0).await?;
        match items.next().await.context("the watch ends early")?? {
            WatchItem::Exit(exit) => ensure!(exit.exit_code == 0, "it ended: {exit:?}"),
            WatchItem::Output(output) => bail!("it printed: {output:?}"),
        }
        Ok(())
    };
    timeout(PATIENCE, running).await.context("the command does not end")?
}
