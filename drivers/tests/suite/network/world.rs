//! A host with a network for tests, whose machines have the cards that guests would have.

use std::{ops::Deref, time::Duration};

use domain::egress::EgressPolicy;
use drivers::{
    Spec,
    contract::{sandbox::Sandbox, spec},
};

pub use super::internet::{
    HOST, METADATA, OTHER_SITE, PRIVATE, RESOLVER, SITE, SITE_6, SITES, UDP_PORT, config, only,
};
use super::{
    card::Machine,
    internet::{Internet, is_inside},
};
use crate::{machine_host::MachineHost, traces::Host as _};

/// How long a packet is waited for that is not expected.
pub const SHORTLY: Duration = Duration::from_millis(400);
/// And one that is.
pub const LONG: Duration = Duration::from_secs(10);

pub struct World {
    pub host: MachineHost,
    around: Internet,
}

impl Deref for World {
    type Target = Internet;

    fn deref(&self) -> &Internet {
        &self.around
    }
}

impl World {
    /// The world of a test, if this is the process in it. Otherwise runs the test as one.
    pub fn enter(test: &str) -> Option<Self> {
        is_inside(test).then(|| {
            let around = Internet::make();
            Self { host: MachineHost::new(), around }
        })
    }

    /// A machine under a policy, with the card that a guest would have.
    pub async fn machine(&self, egress: EgressPolicy) -> Machine {
        let spec = Spec { egress, ..spec() };
        let sandbox = Sandbox::with(self.host.driver(), &spec).await;
        Machine::new(&self.host, sandbox)
    }
}
