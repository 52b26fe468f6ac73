//! Which crate may know which (style, section 1), read from the manifests: an edge that is not listed
//! here fails, so that a layer is never skipped by accident. Judges no code.

use std::{collections::BTreeSet, fs, path::Path};

use toml::{Table, Value};

/// A package of the workspace: its folder, the packages it may use, and those its own tests may use
/// beyond.
struct Package {
    folder: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
}

const fn package(
    folder: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
) -> Package {
    Package { folder, uses, tests_use }
}

const PACKAGES: [(&str, Package); 9] = [
    ("domain", package("domain", &[], &[])),
    ("billing", package("billing", &["domain"], &[])),
    ("protocol", package("drivers/protocol", &[], &[])),
    ("drivers", package("drivers", &["domain", "protocol"], &[])),
    ("guest", package("drivers/guest", &["protocol"], &["domain", "drivers"])),
    ("migrations", package("migrations", &[], &[])),
    ("store", package("store", &["domain", "migrations"], &["store"])),
    ("api", package("api", &["billing", "domain", "drivers", "migrations", "store"], &[])),
    (
        "tests",
        package("tests", &["api", "billing", "domain", "drivers", "migrations", "store"], &[]),
    ),
];

/// What the pure crates may use from outside: nothing that does I/O, waits, or reads a clock. Further
/// ones need a row here and a reason in the commit.
const PURE: [(&str, &[&str]); 2] = [
    ("domain", &["chrono", "crc32fast", "ipnet", "serde", "thiserror", "uuid"]),
    ("billing", &["chrono", "rust_decimal", "serde", "thiserror"]),
];

fn manifest(folder: &str) -> Table {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("Cargo.toml");
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.parse().expect("manifests are TOML")
}

/// The names in a section and in the sections of single platforms.
fn names(manifest: &Table, section: &str) -> BTreeSet<String> {
    let of = |table: &Table| -> Vec<String> {
        table
            .get(section)
            .and_then(Value::as_table)
            .into_iter()
            .flat_map(Table::keys)
            .cloned()
            .collect()
    };
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    of(manifest).into_iter().chain(targets.flat_map(of)).collect()
}

#[test]
fn every_edge_between_packages_is_listed() {
    let ours: BTreeSet<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
    for (name, package) in &PACKAGES {
        let manifest = manifest(package.folder);
        assert_eq!(manifest["package"]["name"].as_str(), Some(*name), "{}", package.folder);
        for (section, allowed) in [
            ("dependencies", vec![package.uses]),
            ("build-dependencies", vec![package.uses]),
            ("dev-dependencies", vec![package.uses, package.tests_use]),
        ] {
            let used = names(&manifest, section);
            for edge in used.iter().filter(|used| ours.contains(used.as_str())) {
                let listed = allowed.iter().any(|list| list.contains(&edge.as_str()));
                assert!(listed, "{name} must not use {edge} ({section} of {})", package.folder);
            }
        }
    }
}

#[test]
fn every_package_of_the_workspace_has_a_row() {
    let root = manifest("");
    let members = root["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<_> = members.iter().map(|member| member.as_str().unwrap()).collect();
    let folders: BTreeSet<_> = PACKAGES.iter().map(|(_, package)| package.folder).collect();
    assert_eq!(members, folders);
}

#[test]
fn the_pure_crates_use_nothing_that_reaches_outside() {
    for (folder, allowed) in PURE {
        for used in names(&manifest(folder), "dependencies") {
            let ours = PACKAGES.iter().any(|(name, _)| *name == used);
            assert!(ours || allowed.contains(&used.as_str()), "{folder} must not use {used}");
        }
    }
}

#[test]
fn versions_are_in_the_workspace_alone() {
    for (name, package) in &PACKAGES {
        let manifest = manifest(package.folder);
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let Some(table) = manifest.get(section).and_then(Value::as_table) else { continue };
            for (used, value) in table {
                let inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
                assert!(inherited, "{name} has a version of {used} of its own");
            }
        }
    }
}
