//! Servers and VMMs that die while machines run.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use domain::id::SandboxId;
use drivers::{
    Driver as _, ErrorKind,
    cloud_hypervisor::CloudHypervisor,
    contract::{sandbox::Sandbox, spec},
};

use crate::{
    host::{RealHost, config},
    traces::{self, Host as _, remove_without_a_trace},
};

const STATE: &str = "CROWNEST_TEST_STATE";
const SANDBOX: &str = "CROWNEST_TEST_MACHINE";

/// What the process does that the tests below start: it is a server that makes one sandbox. Without one of
/// those tests around it, it has nothing to do.
#[tokio::test]
async fn a_server_that_is_about_to_die() {
    let (Some(state), Ok(id)) = (env::var_os(STATE), env::var(SANDBOX)) else { return };
    let driver = CloudHypervisor::new(config(PathBuf::from(state)));
    driver.ensure(id.parse().unwrap(), &spec()).await.unwrap();
}

fn server(state: &Path, id: SandboxId) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "servers::a_server_that_is_about_to_die"])
        .env(STATE, state)
        .env(SANDBOX, id.to_string())
        .stdout(Stdio::null());
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_machine_outlives_its_server() {
    let host = RealHost::new();
    traces::a_sandbox_outlives_its_server(&host, |id| server(&host.state_dir(), id)).await;
}

#[tokio::test]
async fn a_vmm_that_is_killed_is_noticed_and_nothing_of_it_stays() {
    let host = RealHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    host.kill_vmm(sandbox.id).await;
    assert_eq!(host.driver().observe(sandbox.id).await.unwrap(), None);
    let error = host.driver().connect(sandbox.id).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Gone);
    remove_without_a_trace(&host, sandbox.id).await;
}
