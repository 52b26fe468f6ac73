//! The part of Cloud Hypervisor's published API document that the driver uses, in our own words: which
//! calls there are, what goes in and out, and what each field holds. Every exchange with the stand-in is
//! held against this; a test holds this against the document itself where it is at hand.

use serde_json::Value;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    /// A whole number.
    Number,
    Flag,
    One(&'static str),
    Many(&'static str),
    OneOf(&'static [&'static str]),
    /// Anything by name: counters by device, devices by id.
    Names,
}

use Kind::{Flag, Many, Names, Number, One, OneOf, Text};

/// Whether a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Must,
    May,
}

use Need::{May, Must};

/// An object: its name in the document, and its fields.
pub type Object = (&'static str, &'static [(&'static str, Kind, Need)]);

/// A call: method, name, what goes in, what comes out.
pub type Call = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

pub const CALLS: &[Call] = &[
    ("GET", "vmm.ping", None, Some("VmmPingResponse")),
    ("PUT", "vmm.shutdown", None, None),
    ("GET", "vm.info", None, Some("VmInfo")),
    ("GET", "vm.counters", None, Some("VmCounters")),
    ("PUT", "vm.create", Some("VmConfig"), None),
    ("PUT", "vm.delete", None, None),
    ("PUT", "vm.boot", None, None),
    ("PUT", "vm.pause", None, None),
    ("PUT", "vm.resume", None, None),
    ("PUT", "vm.shutdown", None, None),
    ("PUT", "vm.power-button", None, None),
    ("PUT", "vm.resize", Some("VmResize"), None),
    ("PUT", "vm.snapshot", Some("VmSnapshotConfig"), None),
    ("PUT", "vm.restore", Some("RestoreConfig"), None),
];

const CONSOLE: Kind = OneOf(&["Off", "Pty", "Tty", "File", "Socket", "Null"]);

pub const OBJECTS: &[Object] = &[
    (
        "VmmPingResponse",
        &[
            ("version", Text, Must),
            ("build_version", Text, May),
            ("pid", Number, May),
            ("features", Names, May),
        ],
    ),
    (
        "VmInfo",
        &[
            ("config", One("VmConfig"), Must),
            ("state", OneOf(&["Created", "Running", "Shutdown", "Paused"]), Must),
            ("memory_actual_size", Number, May),
            ("device_tree", Names, May),
        ],
    ),
    ("VmCounters", &[]),
    (
        "VmConfig",
        &[
            ("payload", One("PayloadConfig"), Must),
            ("cpus", One("CpusConfig"), May),
            ("memory", One("MemoryConfig"), May),
            ("disks", Many("DiskConfig"), May),
            ("net", Many("NetConfig"), May),
            ("rng", One("RngConfig"), May),
            ("vsock", One("VsockConfig"), May),
            ("serial", One("SerialConfig"), May),
            ("console", One("ConsoleConfig"), May),
            ("landlock_enable", Flag, May),
            ("landlock_rules", Many("LandlockConfig"), May),
        ],
    ),
    ("LandlockConfig", &[("path", Text, Must), ("access", Text, Must)]),
    ("PayloadConfig", &[("kernel", Text, May), ("initramfs", Text, May), ("cmdline", Text, May)]),
    (
        "CpusConfig",
        &[("boot_vcpus", Number, Must), ("max_vcpus", Number, Must), ("nested", Flag, May)],
    ),
    ("MemoryConfig", &[("size", Number, Must), ("zones", Many("MemoryZoneConfig"), May)]),
    (
        "MemoryZoneConfig",
        &[("id", Text, Must), ("size", Number, Must), ("file", Text, May), ("shared", Flag, May)],
    ),
    (
        "DiskConfig",
        &[
            ("path", Text, May),
            ("readonly", Flag, May),
            ("image_type", OneOf(&["FixedVhd", "Qcow2", "Raw", "Vhdx", "Unknown"]), May),
        ],
    ),
    ("NetConfig", &[("id", Text, May), ("tap", Text, May), ("mac", Text, May)]),
    ("RngConfig", &[("src", Text, Must)]),
    ("VsockConfig", &[("cid", Number, Must), ("socket", Text, Must)]),
    ("SerialConfig", &[("mode", CONSOLE, Must), ("file", Text, May)]),
    ("ConsoleConfig", &[("mode", CONSOLE, Must), ("file", Text, May)]),
    ("VmResize", &[("desired_vcpus", Number, May), ("desired_ram", Number, May)]),
    ("VmSnapshotConfig", &[("destination_url", Text, May)]),
    (
        "RestoreConfig",
        &[
            ("source_url", Text, Must),
            ("memory_restore_mode", OneOf(&["Copy", "OnDemand"]), May),
            ("resume", Flag, May),
        ],
    ),
];

/// The fields of an object; panics for one that is not listed.
fn fields(name: &str) -> &'static [(&'static str, Kind, Need)] {
    let found = OBJECTS.iter().find(|(object, _)| *object == name);
    found.unwrap_or_else(|| panic!("{name} is not listed")).1
}

/// Says what is wrong with an object, if anything is.
pub fn check(name: &str, value: &Value) -> Result<(), String> {
    if name == "VmCounters" {
        return check_counters(value);
    }
    let object = value.as_object().ok_or_else(|| format!("{name} is no object"))?;
    let listed = fields(name);
    for (field, kind, need) in listed {
        match object.get(*field) {
            Some(value) => {
                check_kind(*kind, value).map_err(|why| format!("{name}.{field}: {why}"))?;
            }
            None if *need == Must => return Err(format!("{name}.{field} is missing")),
            None => {}
        }
    }
    match object.keys().find(|key| !listed.iter().any(|(field, ..)| field == key)) {
        Some(stranger) => Err(format!("{name}.{stranger} is not listed")),
        None => Ok(()),
    }
}

fn check_kind(kind: Kind, value: &Value) -> Result<(), String> {
    let is = |right: bool, what: &str| {
        if right { Ok(()) } else { Err(format!("{value} is no {what}")) }
    };
    match kind {
        Text => is(value.is_string(), "text"),
        Number => is(value.is_u64() || value.is_i64(), "whole number"),
        Flag => is(value.is_boolean(), "flag"),
        One(name) => check(name, value),
        Many(name) => {
            let list = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
            list.iter().try_for_each(|one| check(name, one))
        }
        OneOf(words) => is(
            value.as_str().is_some_and(|word| words.contains(&word)),
            &format!("one of {words:?}"),
        ),
        Names => is(value.is_object() || value.is_array(), "object or list"),
    }
}

fn check_counters(value: &Value) -> Result<(), String> {
    let devices = value.as_object().ok_or("counters are no object")?;
    for (device, counters) in devices {
        let counters = counters.as_object().ok_or_else(|| format!("{device} is no object"))?;
        if let Some((name, value)) =
            counters.iter().find(|(_, value)| !value.is_i64() && !value.is_u64())
        {
            return Err(format!("{device}.{name}: {value} is no whole number"));
        }
    }
    Ok(())
}
