//! The client of a machine's first process: what a driver tells a microVM of itself before anybody
//! works in it. Draws its randomness from the host's kernel.

use std::{collections::BTreeMap, fs::File, io::Read as _, net::Ipv4Addr, time::Duration};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use protocol::{BeginRequest, Network, RefreshRequest, machine_client::MachineClient};
use tonic::transport::Channel;

use super::{GuestError, GuestErrorKind, transport, within};
use crate::driver::BoxedStream;

/// Starting the agent takes the machine no longer than this.
const DEADLINE: Duration = Duration::from_secs(20);
const ENTROPY_BYTES: usize = 64;

/// What a machine is to be.
#[derive(Debug)]
pub struct Begin<'a> {
    /// Makes its machine id.
    pub id: SandboxId,
    /// The environment of all that runs in it.
    pub env: &'a BTreeMap<String, String>,
    /// How many processes and threads it may have.
    pub n_pids: u32,
    /// The time.
    pub now: DateTime<Utc>,
    /// Its card, if it has one.
    pub network: Option<&'a Card>,
}

/// The network card of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The address of the card itself.
    pub mac: String,
    /// With the length of the prefix.
    pub address: String,
    /// The way to everybody else.
    pub gateway: Ipv4Addr,
    /// Who answers questions for names.
    pub resolvers: Vec<Ipv4Addr>,
    /// The longest packet.
    pub mtu: u32,
}

/// A connection to the first process of a machine.
#[derive(Debug)]
pub struct MachineControl {
    client: MachineClient<Channel>,
}

impl MachineControl {
    /// Speaks over a stream to [`protocol::MACHINE_PORT`].
    ///
    /// # Errors
    /// As [`super::Guest::over`].
    pub async fn over(stream: BoxedStream) -> Result<Self, GuestError> {
        Ok(Self { client: MachineClient::new(transport::channel(stream).await?) })
    }

    /// Makes the machine what it is to be, and starts its agent.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn begin(&mut self, begin: &Begin<'_>) -> Result<(), GuestError> {
        let request = BeginRequest {
            refresh: Some(refreshment(begin.now)?),
            env: begin.env.clone().into_iter().collect(),
            machine_id: begin.id.uuid().simple().to_string(),
            n_pids: begin.n_pids,
            network: begin.network.map(told),
        };
        within(DEADLINE, self.client.begin(request)).await.map(drop)
    }

    /// Tells it the time after a sleep, and gives it randomness that no copy of it has.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn refresh(&mut self, now: DateTime<Utc>) -> Result<(), GuestError> {
        within(DEADLINE, self.client.refresh(refreshment(now)?)).await.map(drop)
    }
}

fn told(card: &Card) -> Network {
    Network {
        mac: card.mac.clone(),
        address: card.address.clone(),
        gateway: card.gateway.to_string(),
        dns_servers: card.resolvers.iter().map(Ipv4Addr::to_string).collect(),
        mtu: card.mtu,
    }
}

fn refreshment(now: DateTime<Utc>) -> Result<RefreshRequest, GuestError> {
    let mut entropy = vec![0; ENTROPY_BYTES];
    // The kernel's generator is ready long before there is a server.
    let drawn = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut entropy));
    drawn.map_err(|error| GuestError::new(GuestErrorKind::Source, error))?;
    Ok(RefreshRequest { now_unix_micros: now.timestamp_micros(), entropy: entropy.into() })
}
