//! Files without bytes on the way: every operation and every reason it is refused for.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    process::Command,
};

use bytes::Bytes;
use drivers::guest::{
    Existing, FileKind, FileStat, Guest, GuestError, Parents, Reason, WriteOptions,
};

use crate::fixture::{REPLACE, Sandbox, refused};

/// What a row of the table asks for.
#[derive(Debug)]
enum Ask {
    Stat(&'static str),
    List(&'static str),
    Read(&'static str),
    /// At most this many bytes.
    ReadUpTo(&'static str, u64),
    Write(&'static str, Existing, Parents),
    Delete(&'static str),
    Make(&'static str, Parents),
    Move(&'static str, &'static str, Existing),
}

async fn ask(guest: &Guest, what: &Ask) -> Result<(), GuestError> {
    match *what {
        Ask::Stat(path) => guest.stat(path).await.map(drop),
        Ask::List(path) => guest.list_directory(path).await.map(drop),
        Ask::Read(path) => guest.read_whole(path, 1 << 20).await.map(drop),
        Ask::ReadUpTo(path, n) => guest.read_whole(path, n).await.map(drop),
        Ask::Write(path, existing, parents) => {
            let options = WriteOptions { existing, parents, max_bytes: Some(4) };
            guest.write_whole(path, options, Bytes::from_static(b"new")).await.map(drop)
        }
        Ask::Delete(path) => guest.delete(path).await,
        Ask::Make(path, parents) => guest.make_directory(path, parents).await.map(drop),
        Ask::Move(from, to, existing) => guest.rename(from, to, existing).await.map(drop),
    }
}

/// `file` (4 bytes), `dir/inner`, `empty`, and things that are neither file nor directory.
async fn furnished() -> (Sandbox, UnixListener) {
    let sandbox = Sandbox::start().await;
    let root = sandbox.workspace();
    fs::create_dir(root.join("dir")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("file"), "old!").unwrap();
    fs::write(root.join("dir/inner"), "inner").unwrap();
    symlink("missing", root.join("dangling")).unwrap();
    symlink("/etc/passwd", root.join("escape")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
    let socket = UnixListener::bind(root.join("socket")).unwrap();
    (sandbox, socket)
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    use Existing::{Refuse, Replace};
    use Parents::{Make, Require};
    use Reason::*;
    let (sandbox, _socket) = furnished().await;
    let long = "a/".repeat(2100).leak();
    let long_name = "n".repeat(256).leak();
    for (what, reason) in [
        (Ask::Stat("missing"), FileNotFound),
        (Ask::Stat("missing/deeper"), FileNotFound),
        (Ask::Stat("file/deeper"), NotDirectory),
        (Ask::Stat("dangling"), FileNotFound),
        (Ask::Stat("escape"), OutsideWorkspace),
        (Ask::Stat("loop"), InvalidPath),
        (Ask::Stat(""), InvalidPath),
        (Ask::Stat("a\0b"), InvalidPath),
        (Ask::Stat(long), InvalidPath),
        (Ask::Stat(long_name), InvalidPath),
        (Ask::Stat(".."), OutsideWorkspace),
        (Ask::Stat("/"), OutsideWorkspace),
        (Ask::Stat("/etc/passwd"), OutsideWorkspace),
        (Ask::Stat("../../etc/passwd"), OutsideWorkspace),
        (Ask::Stat("/workspace/../etc"), OutsideWorkspace),
        (Ask::List("missing"), FileNotFound),
        (Ask::List("file"), NotDirectory),
        (Ask::List("fifo"), NotDirectory),
        (Ask::List("/tmp"), OutsideWorkspace),
        (Ask::Read("missing"), FileNotFound),
        (Ask::Read("dir"), IsDirectory),
        (Ask::Read("/workspace"), IsDirectory),
        (Ask::Read("file/deeper"), NotDirectory),
        (Ask::Read("fifo"), NotRegularFile),
        (Ask::Read("socket"), NotRegularFile),
        (Ask::Read("escape"), OutsideWorkspace),
        (Ask::ReadUpTo("file", 3), FileTooLarge),
        (Ask::Write("missing/file", Replace, Require), ParentNotFound),
        (Ask::Write("file/deeper", Replace, Require), NotDirectory),
        (Ask::Write("file/deeper", Replace, Make), NotDirectory),
        (Ask::Write("file", Refuse, Require), AlreadyExists),
        (Ask::Write("dir", Replace, Require), IsDirectory),
        (Ask::Write("/workspace", Replace, Require), IsDirectory),
        (Ask::Write("fifo", Replace, Require), NotRegularFile),
        (Ask::Write("escape", Replace, Require), OutsideWorkspace),
        (Ask::Write("../up", Replace, Make), OutsideWorkspace),
        (Ask::Write(long_name, Replace, Require), InvalidPath),
        (Ask::Delete("missing"), FileNotFound),
        (Ask::Delete("missing/deeper"), FileNotFound),
        (Ask::Delete("dir"), DirectoryNotEmpty),
        (Ask::Delete("/workspace"), WorkspaceRoot),
        (Ask::Delete("dir/.."), WorkspaceRoot),
        (Ask::Delete("file/deeper"), NotDirectory),
        (Ask::Delete("/etc/passwd"), OutsideWorkspace),
        (Ask::Make("dir", Require), AlreadyExists),
        (Ask::Make("file", Require), AlreadyExists),
        (Ask::Make("file", Make), AlreadyExists),
        (Ask::Make("/workspace", Require), AlreadyExists),
        (Ask::Make("missing/dir", Require), ParentNotFound),
        (Ask::Make("file/dir", Make), NotDirectory),
        (Ask::Make("/etc/dir", Make), OutsideWorkspace),
        (Ask::Move("missing", "x", Replace), FileNotFound),
        (Ask::Move("missing/deeper", "x", Replace), FileNotFound),
        (Ask::Move("file", "missing/x", Replace), ParentNotFound),
        (Ask::Move("file", "dir/inner", Refuse), AlreadyExists),
        (Ask::Move("file", "file", Refuse), AlreadyExists),
        (Ask::Move("file", "dir", Replace), IsDirectory),
        (Ask::Move("empty", "dir", Replace), AlreadyExists),
        (Ask::Move("dir", "file", Replace), AlreadyExists),
        (Ask::Move("dir", "dir/inner/x", Replace), NotDirectory),
        (Ask::Move("dir", "dir/x", Replace), InvalidPath),
        (Ask::Move("dir", "dir/x", Refuse), InvalidPath),
        (Ask::Move("/workspace", "x", Replace), WorkspaceRoot),
        (Ask::Move("file", ".", Replace), WorkspaceRoot),
        (Ask::Move("file", "/tmp/x", Replace), OutsideWorkspace),
        (Ask::Move("/etc/passwd", "x", Replace), OutsideWorkspace),
    ] {
        refused(ask(&sandbox.guest, &what).await, reason, &format!("{what:.60?}"));
    }
    // Nothing of all that has changed anything.
    let names: Vec<String> = names(&sandbox.guest, ".").await;
    let wanted = ["dangling", "dir", "empty", "escape", "fifo", "file", "loop", "socket"];
    assert_eq!(names, wanted);
    assert_eq!(sandbox.read("file").await.unwrap(), "old!");
}

async fn names(guest: &Guest, path: &str) -> Vec<String> {
    guest.list_directory(path).await.unwrap().into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn a_directory_is_listed_by_name() {
    let (sandbox, _socket) = furnished().await;
    fs::write(sandbox.workspace().join("Z"), "zz").unwrap();
    symlink("dir", sandbox.workspace().join("to-dir")).unwrap();
    symlink("/workspace/dir/inner", sandbox.workspace().join("to-inner")).unwrap();
    let listed = sandbox.guest.list_directory("/workspace").await.unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|FileStat { path, name, kind, size_bytes, .. }| {
            assert_eq!(*path, format!("/workspace/{name}"));
            (name.as_str(), *kind, *size_bytes)
        })
        .collect();
    let wanted = [
        ("Z", FileKind::File, 2),
        ("dangling", FileKind::File, 0),
        ("dir", FileKind::Directory, 0),
        ("empty", FileKind::Directory, 0),
        ("escape", FileKind::File, 0),
        ("fifo", FileKind::File, 0),
        ("file", FileKind::File, 4),
        ("loop", FileKind::File, 0),
        ("socket", FileKind::File, 0),
        ("to-dir", FileKind::Directory, 0),
        ("to-inner", FileKind::File, 5),
    ];
    assert_eq!(told, wanted);

    let stat = sandbox.guest.stat("./dir//inner").await.unwrap();
    assert_eq!((stat.path.as_str(), stat.name.as_str()), ("/workspace/dir/inner", "inner"));
    let modified = fs::metadata(sandbox.workspace().join("dir/inner")).unwrap().modified().unwrap();
    let micros = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    assert_eq!(u128::try_from(stat.modified_at.timestamp_micros()).unwrap(), micros);
    let root = sandbox.guest.stat("/workspace").await.unwrap();
    assert_eq!((root.path.as_str(), root.name.as_str()), ("/workspace", "workspace"));
    assert_eq!((root.kind, root.size_bytes), (FileKind::Directory, 0));
}

#[tokio::test]
async fn names_need_not_be_text() {
    let sandbox = Sandbox::start().await;
    sandbox
        .run(
            r"touch $'a\xffb' 'new
line' 漢",
        )
        .await;
    assert_eq!(names(&sandbox.guest, ".").await, ["a\u{fffd}b", "new\nline", "漢"]);
}

#[tokio::test]
async fn a_listing_is_bounded() {
    let sandbox = Sandbox::start().await;
    for i in 0..10_000 {
        fs::write(sandbox.workspace().join(i.to_string()), "").unwrap();
    }
    assert_eq!(names(&sandbox.guest, ".").await.len(), 10_000);
    fs::write(sandbox.workspace().join("one more"), "").unwrap();
    refused(sandbox.guest.list_directory(".").await, Reason::TooManyEntries, "10,001 entries");
}

#[tokio::test]
async fn things_are_made_moved_and_deleted() {
    let (sandbox, _socket) = furnished().await;
    let guest = &sandbox.guest;
    let mode = |path: &str| {
        fs::symlink_metadata(sandbox.workspace().join(path)).unwrap().permissions().mode() & 0o7777
    };

    let made = guest.make_directory("/workspace/a/b/c", Parents::Make).await.unwrap();
    assert_eq!((made.path.as_str(), made.kind), ("/workspace/a/b/c", FileKind::Directory));
    assert_eq!((mode("a"), mode("a/b/c")), (0o755, 0o755));
    guest.make_directory("a/b/c", Parents::Make).await.unwrap();
    guest.make_directory("a/b/d", Parents::Require).await.unwrap();
    guest.make_directory("/workspace", Parents::Make).await.unwrap();

    let options = WriteOptions { parents: Parents::Make, existing: Existing::Refuse, ..REPLACE };
    let written =
        guest.write_whole("deep/er/file", options, Bytes::from_static(b"12345")).await.unwrap();
    assert_eq!((written.path.as_str(), written.size_bytes), ("/workspace/deep/er/file", 5));
    assert_eq!((mode("deep/er/file"), mode("deep")), (0o644, 0o755));

    let moved = guest.rename("deep/er/file", "a/moved", Existing::Refuse).await.unwrap();
    assert_eq!((moved.path.as_str(), moved.size_bytes), ("/workspace/a/moved", 5));
    let moved = guest.rename("a/moved", "file", Existing::Replace).await.unwrap();
    assert_eq!(moved.name, "file");
    assert_eq!(sandbox.read("file").await.unwrap(), "12345");
    guest.rename("file", "file", Existing::Replace).await.unwrap();
    guest.rename("deep", "a/b/deep", Existing::Refuse).await.unwrap();
    guest.rename("a/b/d", "empty", Existing::Replace).await.unwrap();
    // A link is moved and deleted itself, wherever it leads.
    guest.rename("escape", "a/escape", Existing::Refuse).await.unwrap();
    guest.delete("a/escape").await.unwrap();
    guest.delete("dangling").await.unwrap();
    guest.delete("loop").await.unwrap();
    guest.delete("fifo").await.unwrap();
    guest.delete("socket").await.unwrap();
    guest.delete("empty").await.unwrap();
    assert_eq!(names(guest, ".").await, ["a", "dir", "file"]);
    assert!(fs::metadata("/etc/passwd").is_ok());
}

/// Modes inside the workspace hold for the agent as they do for the commands.
#[tokio::test]
async fn modes_are_respected() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: modes mean nothing to the superuser");
        return;
    }
    let sandbox = Sandbox::start().await;
    sandbox.run("mkdir shut; touch shut/file secret; chmod 0 secret shut").await;
    refused(sandbox.read("secret").await, Reason::NotPermitted, "reading");
    refused(sandbox.guest.list_directory("shut").await, Reason::NotPermitted, "listing");
    refused(sandbox.guest.delete("shut/file").await, Reason::NotPermitted, "deleting");
    let written = sandbox.guest.write_whole("shut/new", REPLACE, Bytes::new()).await;
    refused(written, Reason::NotPermitted, "writing");
    sandbox.run("chmod 755 shut").await;
}
