//! What file calls do in the workspace, and the reason of every refusal.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{
    Subject,
    sandbox::{OVERWRITE, Sandbox},
};
use crate::guest::{
    Existing, FileKind, GuestError, GuestErrorKind, OutputStream, Parents, Reason, WriteOptions,
};

/// Nothing that the sandbox itself needs is in it.
pub async fn the_workspace_starts_empty(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    assert_eq!(sandbox.names("/workspace").await, Vec::<String>::new());
    sandbox.run("echo x").await;
    assert_eq!(sandbox.names(".").await, Vec::<String>::new(), "nor is anything of a command");
    let stat = sandbox.guest.stat("/workspace").await.unwrap();
    assert_eq!((stat.kind, stat.path.as_str()), (FileKind::Directory, "/workspace"));
    assert_eq!((stat.name.as_str(), stat.size_bytes), ("workspace", 0));
    sandbox.remove().await;
}

/// Byte for byte, in one piece or in many, new or over another one.
pub async fn a_file_comes_back_as_it_was_written(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let large: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    for content in [&b"text\n"[..], b"", &large, b"\x00\xff shorter than before"] {
        sandbox.write("file", content).await.unwrap();
        assert_eq!(sandbox.read("file").await.unwrap(), content);
        let stat = sandbox.guest.stat("file").await.unwrap();
        assert_eq!(stat.path, "/workspace/file");
        assert_eq!(stat.kind, FileKind::File);
        assert_eq!(stat.size_bytes, u64::try_from(content.len()).unwrap());
    }
    let pieces = stream::iter(
        large.chunks(1000).map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece))),
    );
    let stat = sandbox.guest.write("pieces", OVERWRITE, pieces).await.unwrap();
    assert_eq!(stat.size_bytes, 3 << 20);
    let (stat, chunks) = sandbox.guest.read("pieces", None).await.unwrap();
    assert_eq!(stat.size_bytes, 3 << 20);
    let chunks: Vec<Bytes> = chunks.map(Result::unwrap).collect().await;
    assert!(chunks.iter().all(|chunk| chunk.len() <= 256 << 10));
    assert_eq!(chunks.concat(), large);
    sandbox.remove().await;
}

/// Bytewise, with files and directories mixed.
pub async fn a_directory_is_listed_by_name(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    for name in ["b", "B", "a.txt", "ä", "a"] {
        sandbox.write(name, name.as_bytes()).await.unwrap();
    }
    sandbox.guest.make_directory("aa", Parents::Require).await.unwrap();
    sandbox.write("aa/inner", b"").await.unwrap();
    let entries = sandbox.guest.list_directory("/workspace").await.unwrap();
    let shown: Vec<_> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.kind, entry.size_bytes)).collect();
    let (file, directory) = (FileKind::File, FileKind::Directory);
    assert_eq!(
        shown,
        [
            ("B", file, 1),
            ("a", file, 1),
            ("a.txt", file, 5),
            ("aa", directory, 0),
            ("b", file, 1),
            ("ä", file, 2)
        ]
    );
    assert_eq!(sandbox.guest.list_directory("aa").await.unwrap()[0].path, "/workspace/aa/inner");
    sandbox.remove().await;
}

/// In both directions.
pub async fn commands_and_file_calls_see_the_same_files(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.write("from outside", b"hello").await.unwrap();
    assert_eq!(sandbox.printed("cat 'from outside'").await, "hello");
    sandbox.printed("mkdir -p a/b && echo inside > a/b/file && echo more >> a/b/file").await;
    assert_eq!(sandbox.read("a/b/file").await.unwrap(), "inside\nmore\n");
    let moved = sandbox.guest.rename("a/b", "/workspace/c", Existing::Refuse).await.unwrap();
    assert_eq!((moved.path.as_str(), moved.kind), ("/workspace/c", FileKind::Directory));
    assert_eq!(
        sandbox.printed("cat c/file; test -e a/b || echo moved").await,
        "inside\nmore\nmoved\n"
    );
    sandbox.guest.delete("c/file").await.unwrap();
    sandbox.guest.delete("c").await.unwrap();
    assert_eq!(sandbox.run("test -e c").await.exit.exit_code, 1);
    sandbox.remove().await;
}

/// Answers carry the path as it would be written best.
pub async fn paths_are_made_normal(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    let make = WriteOptions { parents: Parents::Make, ..OVERWRITE };
    let written = sandbox.guest.write_whole("./a//b/../c/x", make, "x".into()).await.unwrap();
    assert_eq!((written.path.as_str(), written.name.as_str()), ("/workspace/a/c/x", "x"));
    for path in
        ["a/c/x", "/workspace/a/c/x", "/workspace/../workspace/a/./c/x", "/workspace//a/c/x/"]
    {
        let stat = sandbox.guest.stat(path).await.unwrap();
        assert_eq!(stat.path, "/workspace/a/c/x", "{path}");
    }
    sandbox.remove().await;
}

/// A link is what it leads to, unless that is outside; deleting it leaves its target.
pub async fn links_are_followed_inside_and_nowhere_else(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.write("target", b"12345").await.unwrap();
    sandbox
        .printed(
            "mkdir d; ln -s target near; ln -s /workspace/target far; ln -s .. d/up; \
             ln -s d/up/target long; ln -s /etc/passwd out; ln -s / root; ln -s ../etc up; \
             ln -s nowhere dangling; ln -s loop loop",
        )
        .await;
    for path in ["near", "far", "long", "d/up/target"] {
        assert_eq!(sandbox.read(path).await.unwrap(), "12345", "{path}");
    }
    for path in ["out", "root", "root/etc/passwd", "root/workspace/target", "up/passwd", "up"] {
        let outside = Some(Reason::OutsideWorkspace);
        assert_eq!(sandbox.read(path).await.unwrap_err(), outside, "read {path}");
        assert_eq!(sandbox.write(path, b"x").await.unwrap_err(), outside, "write {path}");
        let stat = sandbox.guest.stat(path).await;
        assert_eq!(stat.unwrap_err().reason(), outside, "stat {path}");
    }
    assert_eq!(sandbox.read("dangling").await.unwrap_err(), Some(Reason::FileNotFound));
    assert_eq!(sandbox.read("loop").await.unwrap_err(), Some(Reason::InvalidPath));

    let entries = sandbox.guest.list_directory(".").await.unwrap();
    let shown: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    assert!(shown.contains(&("near", FileKind::File)));
    assert!(shown.contains(&("root", FileKind::File)), "not described as what is outside");
    sandbox.write("near", b"through the link").await.unwrap();
    assert_eq!(sandbox.read("target").await.unwrap(), "through the link");
    sandbox.guest.delete("near").await.unwrap();
    sandbox.guest.delete("out").await.unwrap();
    assert_eq!(sandbox.read("target").await.unwrap(), "through the link");
    assert_eq!(sandbox.run("test -e /etc/passwd").await.exit.exit_code, 0);
    sandbox.remove().await;
}

use Call::{
    Delete, List, MakeDirectories, MakeDirectory, Move, MoveOver, Read, ReadAtMost, Stat, Write,
    WriteAtMost, WriteNew,
};

/// A call of the table below.
#[derive(Debug, Clone, Copy)]
enum Call<'a> {
    Stat(&'a str),
    List(&'a str),
    Read(&'a str),
    ReadAtMost(&'a str, u64),
    Write(&'a str),
    WriteNew(&'a str),
    WriteAtMost(&'a str, u64),
    Delete(&'a str),
    MakeDirectory(&'a str),
    MakeDirectories(&'a str),
    Move(&'a str, &'a str),
    MoveOver(&'a str, &'a str),
}

impl Call<'_> {
    async fn make(self, sandbox: &Sandbox) -> Result<(), GuestError> {
        let guest = &sandbox.guest;
        let new = WriteOptions { existing: Existing::Refuse, ..OVERWRITE };
        let at_most = |n_bytes| WriteOptions { max_bytes: Some(n_bytes), ..OVERWRITE };
        let content = Bytes::from_static(b"12345");
        match self {
            Self::Stat(path) => guest.stat(path).await.map(drop),
            Self::List(path) => guest.list_directory(path).await.map(drop),
            Self::Read(path) => guest.read_whole(path, 1 << 30).await.map(drop),
            Self::ReadAtMost(path, n) => guest.read_whole(path, n).await.map(drop),
            Self::Write(path) => guest.write_whole(path, OVERWRITE, content).await.map(drop),
            Self::WriteNew(path) => guest.write_whole(path, new, content).await.map(drop),
            Self::WriteAtMost(path, n) => {
                guest.write_whole(path, at_most(n), content).await.map(drop)
            }
            Self::Delete(path) => guest.delete(path).await,
            Self::MakeDirectory(path) => {
                guest.make_directory(path, Parents::Require).await.map(drop)
            }
            Self::MakeDirectories(path) => {
                guest.make_directory(path, Parents::Make).await.map(drop)
            }
            Self::Move(from, to) => guest.rename(from, to, Existing::Refuse).await.map(drop),
            Self::MoveOver(from, to) => guest.rename(from, to, Existing::Replace).await.map(drop),
        }
    }
}

/// What is refused in a workspace with a file `f` of five bytes and a directory `d` with a file `d/f`.
const REFUSALS: &[(Call<'static>, Reason)] = &[
    (Stat("missing"), Reason::FileNotFound),
    (Stat("missing/x"), Reason::FileNotFound),
    (Stat("f/x"), Reason::NotDirectory),
    (Stat(""), Reason::InvalidPath),
    (Stat("nul\0byte"), Reason::InvalidPath),
    (Stat("/etc/passwd"), Reason::OutsideWorkspace),
    (Stat("../etc/passwd"), Reason::OutsideWorkspace),
    (Stat("/workspaces"), Reason::OutsideWorkspace),
    (List("missing"), Reason::FileNotFound),
    (List("f"), Reason::NotDirectory),
    (List("/"), Reason::OutsideWorkspace),
    (Read("missing"), Reason::FileNotFound),
    (Read("d"), Reason::IsDirectory),
    (Read("/workspace"), Reason::IsDirectory),
    (ReadAtMost("f", 4), Reason::FileTooLarge),
    (Write("missing/x"), Reason::ParentNotFound),
    (Write("f/x"), Reason::NotDirectory),
    (Write("d"), Reason::IsDirectory),
    (Write("/workspace"), Reason::IsDirectory),
    (Write("/tmp/x"), Reason::OutsideWorkspace),
    (WriteNew("f"), Reason::AlreadyExists),
    (WriteAtMost("x", 4), Reason::FileTooLarge),
    (Delete("missing"), Reason::FileNotFound),
    (Delete("missing/x"), Reason::FileNotFound),
    (Delete("d"), Reason::DirectoryNotEmpty),
    (Delete("/workspace"), Reason::WorkspaceRoot),
    (Delete("d/.."), Reason::WorkspaceRoot),
    (Delete("/etc/passwd"), Reason::OutsideWorkspace),
    (MakeDirectory("d"), Reason::AlreadyExists),
    (MakeDirectory("f"), Reason::AlreadyExists),
    (MakeDirectory("missing/x"), Reason::ParentNotFound),
    (MakeDirectories("f"), Reason::AlreadyExists),
    (MakeDirectories("f/x"), Reason::NotDirectory),
    (MakeDirectories("../x"), Reason::OutsideWorkspace),
    (Move("missing", "x"), Reason::FileNotFound),
    (Move("f", "d/f"), Reason::AlreadyExists),
    (Move("f", "missing/x"), Reason::ParentNotFound),
    (Move("f", "/tmp/x"), Reason::OutsideWorkspace),
    (Move("/etc/passwd", "x"), Reason::OutsideWorkspace),
    (Move("/workspace", "x"), Reason::WorkspaceRoot),
    (Move("d", "d/inside"), Reason::InvalidPath),
    (MoveOver("f", "d"), Reason::IsDirectory),
    (MoveOver("d", "f"), Reason::AlreadyExists),
    (MoveOver("f", "/workspace"), Reason::WorkspaceRoot),
];

/// Also where a path is too long to be written into a table.
pub async fn every_refusal_has_its_reason(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.printed("mkdir d; echo 1234 > f; echo 1 > d/f").await;
    let (long, deep) = ("n".repeat(256), "a/".repeat(2049));
    let too_long = [(Stat(&long), Reason::InvalidPath), (Stat(&deep), Reason::InvalidPath)];
    for (call, wanted) in REFUSALS.iter().copied().chain(too_long) {
        let refusal = call.make(&sandbox).await.err().and_then(|error| error.reason());
        assert_eq!(refusal, Some(wanted), "{call:?}");
    }
    assert_eq!(sandbox.printed("cat f d/f").await, "1234\n1\n", "nothing was touched");
    assert_eq!(sandbox.names(".").await, ["d", "f"]);
    sandbox.remove().await;
}

/// Close to what is refused.
pub async fn what_is_not_refused_is_done(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.printed("mkdir d; echo 1234 > f; echo 1 > d/f").await;
    for call in [
        MakeDirectories("d"),
        MakeDirectories("new/deep"),
        Write("f"),
        WriteAtMost("f", 5),
        ReadAtMost("f", 5),
        MoveOver("f", "d/f"),
        Move("d/f", "f"),
        Delete("f"),
        Delete("d"),
    ] {
        call.make(&sandbox).await.unwrap_or_else(|error| panic!("{call:?}: {error}"));
    }
    assert_eq!(sandbox.names(".").await, ["new"]);
    sandbox.remove().await;
}

/// Neither under its name nor under another, and what was there before stays.
pub async fn an_upload_that_is_cut_off_leaves_nothing(subject: &dyn Subject) {
    let sandbox = Sandbox::new(subject).await;
    sandbox.write("old", b"before").await.unwrap();
    for path in ["old", "new"] {
        let broken = stream::iter([
            Ok(Bytes::from(vec![b'x'; 1 << 20])),
            Err(io::Error::other("the client is gone")),
        ]);
        let error = sandbox.guest.write(path, OVERWRITE, broken).await.unwrap_err();
        assert_eq!(error.kind, GuestErrorKind::Source, "{error}");
    }
    assert_eq!(sandbox.read("old").await.unwrap(), "before");
    assert_eq!(sandbox.names(".").await, ["old"]);
    sandbox.remove().await;
}

/// To uploads and to commands; once there is room again, work goes on.
pub async fn a_full_workspace_says_so(subject: &dyn Subject) {
    // The sandbox of the contract has eight.
    const MIB: usize = 1 << 20;
    let sandbox = Sandbox::new(subject).await;
    sandbox.write("most", &vec![b'x'; 6 * MIB]).await.unwrap();
    let refusal = sandbox.write("more", &vec![b'x'; 3 * MIB]).await.unwrap_err();
    assert_eq!(refusal, Some(Reason::NoSpace));
    assert_eq!(sandbox.names(".").await, ["most"], "nothing is left of it");
    let ended = sandbox.run("seq 1000000 > numbers").await;
    assert_ne!(ended.exit.exit_code, 0);
    assert!(ended.text(OutputStream::Stderr).contains("No space left"));
    sandbox.guest.delete("most").await.unwrap();
    sandbox.write("more", &vec![b'x'; MIB / 2]).await.unwrap();
    sandbox.remove().await;
}
