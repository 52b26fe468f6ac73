//! Bytes on the way in and out: large files, uploads that are cut off, full disks.

use std::{
    fs, future,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use drivers::guest::{Existing, GuestErrorKind, Reason, WriteOptions};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

use crate::fixture::{PATIENCE, REPLACE, Sandbox, binary, refused};

const MIB: usize = 1 << 20;

/// Bytes that differ from place to place.
fn pattern(n: usize) -> Bytes {
    (0..n / 4)
        .flat_map(|i| u32::try_from(i).unwrap().wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Waits until the workspace has nothing but what is wanted.
async fn settles(sandbox: &Sandbox, wanted: &[&str]) {
    let look = async {
        loop {
            let entries = fs::read_dir(sandbox.workspace()).unwrap().flatten();
            let mut names: Vec<_> =
                entries.map(|it| it.file_name().into_string().unwrap()).collect();
            names.sort();
            if names == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, look).await.expect("something was left");
}

#[tokio::test]
async fn a_large_file_comes_back_as_it_went() {
    let sandbox = Sandbox::start().await;
    let bytes = pattern(50 * MIB);
    // Pieces of odd sizes, some larger than one message may be.
    let sizes = [1, 700_001, 3 * MIB, 17, 65_536].into_iter().cycle();
    let pieces = sizes.scan(bytes.clone(), |left, n| {
        (!left.is_empty()).then(|| Ok::<_, std::io::Error>(left.split_to(n.min(left.len()))))
    });
    let written = sandbox.guest.write("big", REPLACE, stream::iter(pieces)).await.unwrap();
    assert_eq!(written.size_bytes, bytes.len() as u64);
    let (stat, mut pieces) = sandbox.guest.read("big", None).await.unwrap();
    assert_eq!(stat, written);
    let mut back = BytesMut::new();
    while let Some(piece) = pieces.try_next().await.unwrap() {
        assert!(piece.len() <= 256 << 10);
        back.extend_from_slice(&piece);
    }
    assert!(back == bytes);
    let empty = sandbox.guest.write_whole("empty", REPLACE, Bytes::new()).await.unwrap();
    assert_eq!(empty.size_bytes, 0);
    assert_eq!(sandbox.read("empty").await.unwrap(), "");
}

/// Readers that stop reading hold up neither each other nor anything else on the connection.
#[tokio::test]
async fn slow_readers_are_on_their_own() {
    let sandbox = Sandbox::start().await;
    sandbox.guest.write_whole("big", REPLACE, pattern(8 * MIB)).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(sandbox.guest.read("big", None).await.unwrap());
    }
    let (_, whole) = sandbox.guest.read_whole("big", 8 * MIB as u64).await.unwrap();
    assert_eq!(whole.len(), 8 * MIB);
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let sandbox = Sandbox::start().await;
    sandbox.write("old", "old").await;
    let some = pattern(MIB);

    // The caller's own stream fails.
    let broken = stream::iter([Ok(some.clone()), Err("the browser went away")]);
    let error = sandbox.guest.write("old", REPLACE, broken).await.unwrap_err();
    assert_eq!(error.kind, GuestErrorKind::Source);
    settles(&sandbox, &["old"]).await;

    // The caller gives up while the upload is under way, which its temporary name shows.
    let endless = stream::iter([Ok::<_, std::io::Error>(some.clone())]).chain(stream::pending());
    let upload = sandbox.guest.write("new", REPLACE, endless);
    let under_way = async {
        while fs::read_dir(sandbox.workspace()).unwrap().count() < 2 {
            tokio::task::yield_now().await;
        }
        // Nobody sees it in a listing, though.
        let listed = sandbox.guest.list_directory(".").await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
    };
    tokio::select! {
        _ = upload => panic!("it cannot end"),
        () = under_way => {}
    }
    settles(&sandbox, &["old"]).await;

    // The connection is lost.
    let other = sandbox.another_guest().await;
    let endless = stream::iter([Ok::<_, std::io::Error>(some)]).chain(stream::pending());
    let upload = tokio::spawn(async move { other.write("new", REPLACE, endless).await });
    while fs::read_dir(sandbox.workspace()).unwrap().count() < 2 {
        tokio::task::yield_now().await;
    }
    upload.abort();
    settles(&sandbox, &["old"]).await;
    assert_eq!(sandbox.read("old").await.unwrap(), "old");
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_refused_on_its_way() {
    let sandbox = Sandbox::start().await;
    let options = WriteOptions { max_bytes: Some(MIB as u64), ..REPLACE };
    // Endless, so only a refusal can end it.
    let piece = pattern(MIB / 2);
    let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
    refused(sandbox.guest.write("big", options, endless).await, Reason::FileTooLarge, "endless");
    sandbox.guest.write_whole("fits", options, pattern(MIB)).await.unwrap();
    settles(&sandbox, &["fits"]).await;
    // Refusals before any byte end an upload that has brought none.
    let never = stream::once(future::pending::<Result<Bytes, std::io::Error>>());
    let options = WriteOptions { existing: Existing::Refuse, ..REPLACE };
    refused(sandbox.guest.write("fits", options, never).await, Reason::AlreadyExists, "at once");
}

#[tokio::test]
async fn of_many_that_may_not_replace_one_wins() {
    let sandbox = Sandbox::start().await;
    let options = WriteOptions { existing: Existing::Refuse, ..REPLACE };
    let uploads = (0..16).map(async |i: u8| {
        sandbox.guest.write_whole("one", options, Bytes::from(vec![b'a' + i; 1000])).await
    });
    let done = futures_util::future::join_all(uploads).await;
    let won: Vec<_> = (0u8..).zip(&done).filter(|(_, done)| done.is_ok()).collect();
    assert_eq!(won.len(), 1);
    let letter = char::from(b'a' + won[0].0);
    assert_eq!(sandbox.read("one").await.unwrap(), letter.to_string().repeat(1000));
    for lost in done.iter().filter_map(|done| done.as_ref().err()) {
        assert_eq!(lost.reason(), Some(Reason::AlreadyExists));
    }
    settles(&sandbox, &["one"]).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_keeps_its_mode() {
    let sandbox = Sandbox::start().await;
    sandbox.run("printf '#!/bin/sh\\necho first\\n' > tool; chmod 4750 tool").await;
    sandbox.write("tool", "#!/bin/sh\necho second\n").await;
    let (outputs, _) = sandbox.run("./tool").await;
    assert_eq!(outputs[0].data, "second\n");
    let mode = fs::metadata(sandbox.workspace().join("tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750, "without the set-id bit, as after any write");
}

/// A pipe without a writer would hold up whoever opens it.
#[tokio::test]
async fn a_pipe_holds_nothing_up() {
    let sandbox = Sandbox::start().await;
    sandbox.run("mkfifo pipe").await;
    let soon = Duration::from_secs(5);
    let read = timeout(soon, sandbox.read("pipe")).await.unwrap();
    refused(read, Reason::NotRegularFile, "reading");
    let write = sandbox.guest.write_whole("pipe", REPLACE, Bytes::new());
    refused(timeout(soon, write).await.unwrap(), Reason::NotRegularFile, "writing");
}

/// The workspace is a filesystem of 1 MiB, where the host lets users mount one.
#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left() {
    let unshare = ["--user", "--map-root-user", "--mount", "--propagation", "private"];
    let can = Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this host does not let users mount filesystems");
        return;
    }
    let mut agent = Command::new("unshare");
    // The workspace is the argument after --workspace.
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$3" && exec "$0" "$@""#;
    agent.args(unshare).args(["sh", "-c", script, binary()]);
    let sandbox = Sandbox::start_as(agent).await;
    sandbox.write("old", "old").await;
    let too_much = sandbox.guest.write_whole("old", REPLACE, pattern(2 * MIB)).await;
    refused(too_much, Reason::NoSpace, "2 MiB on 1 MiB");
    let (outputs, _) = sandbox.run("ls -A; cat old").await;
    assert_eq!(outputs.iter().map(|it| it.data.as_str()).collect::<String>(), "old\nold");
    sandbox.guest.write_whole("fits", REPLACE, pattern(MIB / 2)).await.unwrap();
}
