//! The program itself: what it says about its commands, how it ends, and what its users' commands do
//! against a server. What the operators' commands do is told by the stories.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod admin;
mod broken;
mod help;
mod money;
mod nouns;
mod person;
mod real;
mod run;

use std::process::{Command, Output};

use tests::program;

fn crownest(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program::folder().join("crownest"));
    for name in program::settings_around() {
        command.env_remove(name);
    }
    command.args(arguments).envs(settings.iter().copied());
    command.output().expect("scripts/build makes crownest")
}

#[test]
fn the_exit_code_says_how_it_went() {
    let folder = std::env::temp_dir().join(format!("crownest-command-line-{}", std::process::id()));
    let state = folder.to_str().expect("a path of letters");
    let here = [("CROWNEST_STATE_DIR", state)];
    let balance = ["billing", "balance", "--organization", "acme"];
    let wrong: [(&str, &str); 1] = [("CROWNEST_DEFAULT_PLAN", "gold")];
    for (arguments, settings, code, words) in [
        (&["billing", "--help"][..], &here[..], 0, "Look after money"),
        (&balance[..], &here[..], 3, "there is no database at"),
        (&["bootstrap", "--organization", "acme"][..], &here[..], 0, "This key is shown once."),
        (&balance[..], &here[..], 0, "600.0006 credits"),
        (&["bootstrap"][..], &here[..], 2, "--organization <ORGANIZATION>"),
        (&["bootstrap", "--admin", "--json"][..], &here[..], 0, "\"adminKey\":\"cn_admin_"),
        (&["bootstrap", "--admin"][..], &here[..], 0, "This admin key is shown once."),
        (
            &["audit", "export", "--installation"][..],
            &here[..],
            0,
            "\"action\":\"admin_key.create\"",
        ),
        (&["audit", "export"][..], &here[..], 2, "--installation"),
        (&["audit", "verify"][..], &here[..], 0, "5 entries of 1 organizations are as written"),
        (&["openapi", "--admin"][..], &here[..], 0, "title: CrowNest Admin API"),
        (&["billing", "check"][..], &here[..], 0, "the books are right"),
        (
            &["billing", "balance", "--organization", "b"][..],
            &here[..],
            2,
            "there is none called b",
        ),
        (&["billing", "balance"][..], &here[..], 2, "--organization <NAME-OR-ID>"),
        (&["billing", "check"][..], &wrong[..], 3, "default_plan must be one of free, builder"),
        (&["doctor"][..], &here[..], 0, "local (configured): sandboxes can run here."),
    ] {
        let done = crownest(arguments, settings);
        let said = String::from_utf8_lossy(if code == 0 { &done.stdout } else { &done.stderr });
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {done:?}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(code == 0 || done.stdout.is_empty(), "{arguments:?}: {done:?}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder was made by the commands");
}

#[test]
fn the_doctor_says_what_is_missing_and_how_to_get_it() {
    let folder = std::env::temp_dir().join(format!("crownest-doctor-{}", std::process::id()));
    let state = folder.to_str().expect("a path of letters");
    let settings = [
        ("CROWNEST_STATE_DIR", state),
        ("CROWNEST_DRIVER", "cloud_hypervisor"),
        ("CROWNEST_CLOUD_HYPERVISOR", "/nowhere/cloud-hypervisor"),
    ];
    let done = crownest(&["doctor"], &settings);
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1), "the configured driver cannot run: {said}");
    for words in [
        "cloud_hypervisor (configured): no sandbox can run here.",
        "/nowhere/cloud-hypervisor",
        "install Cloud Hypervisor",
        "local: sandboxes can run here.",
        state,
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder was made by the check");
}
