//! What the drivers that can suspend do with it. The others pass: they do not claim to.

use super::{Subject, new_id, sandbox::Sandbox, spec};
use crate::{
    Driver, ErrorKind, Suspend,
    guest::{Guest, Parents},
};

/// What can suspend, of a driver that was seen to.
fn suspending(driver: &dyn Driver) -> &dyn Suspend {
    driver.as_suspend().unwrap()
}

/// Its files and its processes are there, for another server too; and in between it is nowhere.
pub async fn a_suspended_sandbox_goes_on_where_it_was(subject: &dyn Subject) {
    if subject.driver().as_suspend().is_none() {
        return;
    }
    let sandbox = Sandbox::new(subject).await;
    let before = sandbox.guest.hello().await.unwrap();
    sandbox.write("kept", b"x").await.unwrap();
    let started = sandbox.start("sleep 100000").await;
    suspending(&*sandbox.driver).suspend(sandbox.id).await.unwrap();

    let other = subject.driver();
    assert_eq!(other.observe(sandbox.id).await.unwrap(), None);
    assert_eq!(other.list().await.unwrap(), []);
    assert_eq!(suspending(&*other).suspended().await.unwrap(), [sandbox.id]);
    assert!(other.connect(sandbox.id).await.is_err_and(|error| error.kind == ErrorKind::Gone));

    let resumed = suspending(&*other).resume(sandbox.id).await.unwrap();
    assert_eq!(other.list().await.unwrap(), [resumed]);
    assert_eq!(suspending(&*other).suspended().await.unwrap(), []);
    let guest = Guest::connect(&*other, sandbox.id).await.unwrap();
    assert_eq!(guest.hello().await.unwrap(), before, "the same agent");
    let sandbox = Sandbox { guest, driver: other, ..sandbox };
    assert_eq!(sandbox.names("/workspace").await, ["kept"]);
    let remembered = sandbox.guest.list_commands().await.unwrap();
    assert!(remembered.iter().any(|one| one.id == started && one.running), "{remembered:?}");
    sandbox.remove().await;
}

/// The second call of either changes nothing.
pub async fn suspending_and_resuming_may_be_repeated(subject: &dyn Subject) {
    if subject.driver().as_suspend().is_none() {
        return;
    }
    let sandbox = Sandbox::new(subject).await;
    let driver = suspending(&*sandbox.driver);
    let observed = sandbox.driver.observe(sandbox.id).await.unwrap().unwrap();
    assert_eq!(driver.resume(sandbox.id).await.unwrap(), observed, "it runs already");
    for turn in 0..3 {
        let guest = Guest::connect(&*sandbox.driver, sandbox.id).await.unwrap();
        guest.make_directory(&format!("/workspace/{turn}"), Parents::Require).await.unwrap();
        driver.suspend(sandbox.id).await.unwrap();
        driver.suspend(sandbox.id).await.unwrap();
        let resumed = driver.resume(sandbox.id).await.unwrap();
        assert_eq!(driver.resume(sandbox.id).await.unwrap(), resumed);
    }
    let guest = Guest::connect(&*sandbox.driver, sandbox.id).await.unwrap();
    assert_eq!(guest.list_directory("/workspace").await.unwrap().len(), 3);
    sandbox.remove().await;
}

/// Nothing is made of an id that nobody knows.
pub async fn what_is_not_there_cannot_be_suspended(subject: &dyn Subject) {
    let (driver, id) = (subject.driver(), new_id());
    let Some(suspending) = driver.as_suspend() else { return };
    assert_eq!(suspending.suspend(id).await.unwrap_err().kind, ErrorKind::Gone);
    assert_eq!(suspending.resume(id).await.unwrap_err().kind, ErrorKind::Gone);
    assert_eq!(suspending.suspended().await.unwrap(), []);
    assert_eq!(driver.list().await.unwrap(), []);
}

/// It is gone for good.
pub async fn a_suspended_sandbox_can_be_removed(subject: &dyn Subject) {
    if subject.driver().as_suspend().is_none() {
        return;
    }
    let sandbox = Sandbox::new(subject).await;
    let (driver, id) = (subject.driver(), sandbox.id);
    suspending(&*driver).suspend(id).await.unwrap();
    driver.remove(id).await.unwrap();
    assert_eq!(suspending(&*driver).suspended().await.unwrap(), []);
    assert_eq!(suspending(&*driver).resume(id).await.unwrap_err().kind, ErrorKind::Gone);
}

/// Whoever wants it to run, and does not know that it is suspended, does not lose what is in it.
pub async fn ensuring_a_suspended_sandbox_resumes_it(subject: &dyn Subject) {
    if subject.driver().as_suspend().is_none() {
        return;
    }
    let sandbox = Sandbox::new(subject).await;
    sandbox.write("kept", b"x").await.unwrap();
    suspending(&*sandbox.driver).suspend(sandbox.id).await.unwrap();
    sandbox.driver.ensure(sandbox.id, &spec()).await.unwrap();
    let guest = Guest::connect(&*sandbox.driver, sandbox.id).await.unwrap();
    assert_eq!(guest.list_directory("/workspace").await.unwrap().len(), 1);
    sandbox.remove().await;
}
