//! What the verbs of the trait do, alone, repeated and at once.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    Subject, new_id,
    sandbox::{OVERWRITE, Sandbox},
    spec,
};
use crate::{
    Driver, ErrorKind,
    guest::{Guest, GuestErrorKind},
};

async fn refusal_to_connect(driver: &dyn Driver, id: domain::id::SandboxId) -> Option<ErrorKind> {
    driver.connect(id).await.err().map(|error| error.kind)
}

/// Nothing is known of it, and removing it is no error.
pub async fn an_unknown_sandbox_is_gone_already(subject: &dyn Subject) {
    let (driver, id) = (subject.driver(), new_id());
    assert_eq!(driver.observe(id).await.unwrap(), None);
    assert_eq!(driver.list().await.unwrap(), []);
    assert_eq!(refusal_to_connect(&*driver, id).await, Some(ErrorKind::Gone));
    driver.remove(id).await.unwrap();
}

/// The second call changes nothing, whatever its spec says.
pub async fn ensure_twice_is_ensure_once(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let before = sandbox.guest.hello().await.unwrap();
    sandbox.write("kept", b"x").await.unwrap();
    let observed = sandbox.driver.observe(sandbox.id).await.unwrap().unwrap();

    let mut other = spec();
    other.env.insert("GREETING".to_owned(), "another".to_owned());
    assert_eq!(sandbox.driver.ensure(sandbox.id, &other).await.unwrap(), observed);
    assert_eq!(sandbox.guest.hello().await.unwrap(), before, "it is still the same agent");
    assert_eq!(sandbox.names("/workspace").await, ["kept"]);
    assert_eq!(sandbox.printed("echo $GREETING").await, "hello from the spec\n");
    sandbox.remove().await;
}

/// Every caller gets an answer, and it is about the same sandbox.
pub async fn ensure_at_once_from_many_sides_is_ensure_once(subject: &dyn Subject) {
    let (spec, id) = (spec(), new_id());
    let drivers: Vec<Arc<dyn Driver>> = (0..6).map(|_| subject.driver()).collect();
    let observed = join_all(drivers.iter().map(|driver| driver.ensure(id, &spec))).await;
    let first = observed.first().unwrap().as_ref().unwrap();
    let guest = Guest::connect(&*drivers[0], id).await.unwrap();
    let boot = guest.hello().await.unwrap();
    for (driver, observed) in drivers.iter().zip(&observed) {
        assert_eq!(observed.as_ref().unwrap(), first);
        let guest = Guest::connect(&**driver, id).await.unwrap();
        assert_eq!(guest.hello().await.unwrap(), boot);
    }
    assert_eq!(drivers[0].list().await.unwrap(), std::slice::from_ref(first));
    drivers[1].remove(id).await.unwrap();
    assert_eq!(drivers[0].list().await.unwrap(), []);
}

/// After it returns nothing is left to speak to, and once more does no harm.
pub async fn remove_may_be_repeated(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let id = sandbox.start("sleep 1000").await;
    let (first, second) =
        tokio::join!(sandbox.driver.remove(sandbox.id), sandbox.driver.remove(sandbox.id));
    first.unwrap();
    second.unwrap();
    sandbox.driver.remove(sandbox.id).await.unwrap();

    assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None);
    assert_eq!(refusal_to_connect(&*sandbox.driver, sandbox.id).await, Some(ErrorKind::Gone));
    let error = sandbox.guest.watch(id, 0).await.err().unwrap();
    assert_eq!(error.kind, GuestErrorKind::Gone, "{error}");
}

/// Neither files nor commands outlive a sandbox.
pub async fn a_sandbox_made_anew_remembers_nothing(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let before = sandbox.guest.hello().await.unwrap();
    sandbox.write("old", b"x").await.unwrap();
    sandbox.start("sleep 1000").await;
    let (driver, id) = (Arc::clone(&sandbox.driver), sandbox.id);
    sandbox.remove().await;

    driver.ensure(id, &spec()).await.unwrap();
    let guest = Guest::connect(&*driver, id).await.unwrap();
    assert_ne!(guest.hello().await.unwrap(), before);
    assert_eq!(guest.list_directory("/workspace").await.unwrap(), []);
    assert_eq!(guest.list_commands().await.unwrap(), []);
    driver.remove(id).await.unwrap();
}

/// A file of one is in no other, under whatever name.
pub async fn sandboxes_do_not_share_files(subject: &dyn Subject) {
    let (one, other) = (Sandbox::new(subject).await, Sandbox::new(subject).await);
    one.write("secret", b"of one").await.unwrap();
    one.run("echo x > /tmp/secret").await;
    assert_eq!(other.names("/workspace").await, Vec::<String>::new());
    assert_eq!(other.run("test -e /tmp/secret").await.exit.exit_code, 1);
    let (driver, id) = (Arc::clone(&other.driver), other.id);
    one.remove().await;
    assert!(driver.observe(id).await.unwrap().is_some(), "removing one leaves the other");
    other.remove().await;
}

/// For good: trying again does not help. Nothing is left of it.
pub async fn an_unknown_template_is_refused(subject: &dyn Subject) {
    let (driver, id) = (subject.driver(), new_id());
    let mut unknown = spec();
    unknown.template.slug = "no-such-template".to_owned();
    let error = driver.ensure(id, &unknown).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    assert_eq!(driver.observe(id).await.unwrap(), None);
}

/// A sandbox that died is not listed, cannot be reached, and can be made anew.
pub async fn a_dead_sandbox_is_noticed(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.write("old", b"x").await.unwrap();
    subject.crash(sandbox.id).await;
    let (driver, id) = (&sandbox.driver, sandbox.id);
    assert_eq!(driver.observe(id).await.unwrap(), None);
    assert_eq!(driver.list().await.unwrap(), []);
    assert_eq!(refusal_to_connect(&**driver, id).await, Some(ErrorKind::Gone));
    let written = sandbox.guest.write_whole("new", OVERWRITE, "x".into()).await;
    assert_eq!(written.unwrap_err().kind, GuestErrorKind::Gone);

    driver.ensure(id, &spec()).await.unwrap();
    let guest = Guest::connect(&**driver, id).await.unwrap();
    assert_eq!(guest.list_directory("/workspace").await.unwrap(), []);
    sandbox.remove().await;
}

/// What one process made, another one lists, reaches and removes.
pub async fn another_process_sees_the_sandbox(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let other = subject.driver();
    let observed = sandbox.driver.observe(sandbox.id).await.unwrap();
    assert!(observed.is_some());
    assert_eq!(other.observe(sandbox.id).await.unwrap(), observed);
    assert_eq!(other.list().await.unwrap(), Vec::from_iter(observed));
    let guest = Guest::connect(&*other, sandbox.id).await.unwrap();
    assert_eq!(guest.hello().await.unwrap(), sandbox.guest.hello().await.unwrap());
    other.remove(sandbox.id).await.unwrap();
    assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None);
}

/// Whatever the order in which they were made.
pub async fn the_list_is_sorted(subject: &dyn Subject) {
    let driver = subject.driver();
    let mut ids = [new_id(), new_id(), new_id()];
    ids.sort_unstable_by(|a, b| b.cmp(a));
    for id in ids {
        driver.ensure(id, &spec()).await.unwrap();
    }
    let listed: Vec<_> = driver.list().await.unwrap().iter().map(|one| one.id).collect();
    ids.reverse();
    assert_eq!(listed, ids);
    for id in ids {
        driver.remove(id).await.unwrap();
    }
}
