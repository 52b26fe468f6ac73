//! `crownest doctor`: whether this host can run each driver, and what would mend what it lacks. Changes
//! nothing but what a check needs, such as the state folder.

use std::{io::Write, path::Path};

use drivers::DriverError;

use super::{Ending, Failure};
use crate::{
    config::{Config, DriverName},
    serve,
};

/// The drivers that need something of the host.
const DRIVERS: [DriverName; 2] = [DriverName::Local, DriverName::CloudHypervisor];

/// Checks each driver; [`Ending::Wrong`] when the configured one cannot run.
///
/// # Errors
/// When `out` takes nothing more.
pub async fn run(config: &Config, out: &mut impl Write) -> Result<Ending, Failure> {
    let mut ending = Ending::Done;
    for name in DRIVERS {
        let is_configured = name == config.driver;
        let mark = if is_configured { " (configured)" } else { "" };
        let opened = serve::open_driver(&Config { driver: name, ..config.clone() }, |_| {});
        let checked = match opened {
            Ok(driver) => driver.check().await.map_err(|error| reason(&error)),
            Err(error) => Err(format!("{error:#}")),
        };
        match checked {
            Ok(limitations) => {
                writeln!(out, "{}{mark}: sandboxes can run here.", shown(name))?;
                for limitation in limitations {
                    writeln!(out, "  - {}\n    {}", limitation.what, limitation.remedy)?;
                }
            }
            Err(why) => {
                writeln!(out, "{}{mark}: no sandbox can run here.\n  - {why}", shown(name))?;
                if is_configured {
                    ending = Ending::Wrong;
                }
            }
        }
    }
    let state = std::path::absolute(&config.state_dir);
    let state = state.as_deref().unwrap_or(Path::new("?"));
    writeln!(out, "State is kept in {}.", state.display())?;
    out.flush()?;
    Ok(ending)
}

/// Why, without what only somebody who reads logs wants to know.
fn reason(error: &DriverError) -> String {
    error.source.to_string()
}

const fn shown(name: DriverName) -> &'static str {
    match name {
        DriverName::Local => "local",
        DriverName::CloudHypervisor => "cloud_hypervisor",
        DriverName::Simulated => "simulated",
    }
}
