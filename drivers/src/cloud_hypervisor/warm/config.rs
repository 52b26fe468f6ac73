//! Turns the configuration of a golden machine, as its VMM wrote it down, into that of a machine that begins
//! with it. Pure. Jails have the same paths inside, so nothing but the memory differs.

use std::path::Path;

use serde_json::Value;

use super::Way;
use crate::{
    cloud_hypervisor::convert::{GOLDEN, MEMORY, RUN},
    jail::failure::{Failure, Result},
};

/// The configuration of one machine. What this version of the VMM writes besides stays as it is.
pub(super) fn of_clone(golden: &str, way: Way) -> Result<String> {
    let wrong = |what: &str| Failure::host(format!("the configuration of a golden machine {what}"));
    let mut config: Value =
        serde_json::from_str(golden).map_err(|error| wrong(&format!("is no JSON: {error}")))?;
    let zones = config.pointer_mut("/memory/zones").and_then(Value::as_array_mut);
    let Some([zone]) = zones.map(Vec::as_mut_slice) else {
        return Err(wrong("has not one memory zone"));
    };
    let zone = zone.as_object_mut().ok_or_else(|| wrong("has a memory zone that is none"))?;
    let file = match way {
        Way::Clone => Path::new(GOLDEN).to_owned(),
        Way::Copy => Path::new(RUN).join(MEMORY),
    };
    zone.insert("file".to_owned(), Value::String(file.display().to_string()));
    // Its own changes stay its own: the file is read and never written.
    zone.insert("shared".to_owned(), Value::Bool(false));
    Ok(config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Cloud Hypervisor 53.0 writes it.
    const GOLDEN_MACHINE: &str = include_str!("config.golden.json");

    #[test]
    fn nothing_but_the_memory_differs() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (way, file) in [(Way::Clone, "/vm/golden"), (Way::Copy, "/vm/run/memory")] {
            let mut clone = read(&of_clone(GOLDEN_MACHINE, way).unwrap());
            let zone = &mut clone["memory"]["zones"][0];
            assert_eq!((&zone["file"], &zone["shared"]), (&Value::from(file), &Value::from(false)));
            zone["file"] = "/vm/run/memory".into();
            zone["shared"] = true.into();
            assert_eq!(clone, read(GOLDEN_MACHINE));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "{}", r#"{"memory":{"zones":[]}}"#, r#"{"memory":{"zones":[{},{}]}}"#] {
            assert!(of_clone(text, Way::Clone).is_err(), "{text}");
        }
    }
}
