//! What every driver does, done by real machines.

use crate::host::RealHost;

async fn subject() -> RealHost {
    RealHost::new()
}

drivers::contract!(subject);
