//! Symbolic links: followed inside, never outside, also while they are being changed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bytes::Bytes;
use drivers::guest::{Existing, Parents, Reason, WriteOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::fixture::{REPLACE, Sandbox, refused};

/// Links by name and target, `OUTSIDE` standing for the directory beside the workspace.
async fn linked(links: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::start().await;
    let root = sandbox.workspace();
    fs::create_dir_all(root.join("dir/deep")).unwrap();
    fs::write(root.join("dir/file"), "inside").unwrap();
    fs::write(sandbox.outside().join("file"), "outside").unwrap();
    for (name, target) in links {
        let target = target.replace("OUTSIDE", sandbox.outside().to_str().unwrap());
        symlink(target, root.join(name)).unwrap();
    }
    sandbox
}

#[tokio::test]
async fn links_inside_are_followed() {
    let sandbox = linked(&[
        ("relative", "dir/file"),
        ("absolute", "/workspace/dir/file"),
        ("directory", "dir"),
        ("dotted", "dir/deep/.././/file"),
        ("chain", "second"),
        ("second", "directory/up/dir/file"),
        ("dir/up", ".."),
        ("dir/deep/absolute", "/workspace/dir"),
        ("there-and-back", "dir/up/dir/up"),
    ])
    .await;
    for path in [
        "relative",
        "absolute",
        "directory/file",
        "dotted",
        "chain",
        "dir/up/dir/file",
        "dir/deep/absolute/file",
        "there-and-back/relative",
    ] {
        assert_eq!(sandbox.read(path).await.unwrap(), "inside", "{path}");
        assert_eq!(sandbox.guest.stat(path).await.unwrap().path, format!("/workspace/{path}"));
    }
    let listed = sandbox.guest.list_directory("there-and-back").await.unwrap();
    assert_eq!(listed.len(), 8, "{listed:?}");
    // Writing goes where the link leads and keeps the link; `..` of a client is about the text.
    sandbox.write("absolute", "changed").await;
    assert!(fs::symlink_metadata(sandbox.workspace().join("absolute")).unwrap().is_symlink());
    assert_eq!(sandbox.read("directory/../dir/file").await.unwrap(), "changed");
    // Through a dangling link a file is made where it leads.
    symlink("dir/made", sandbox.workspace().join("dangling")).unwrap();
    sandbox.write("dangling", "made").await;
    assert_eq!(sandbox.read("dir/made").await.unwrap(), "made");
}

#[tokio::test]
async fn links_outside_are_refused() {
    let chain: Vec<_> = (0..41).map(|i| (format!("long{i}"), format!("long{}", i + 1))).collect();
    let mut links: Vec<_> = chain.iter().map(|(name, to)| (name.as_str(), to.as_str())).collect();
    links.extend([
        ("relative", "../outside/file"),
        ("absolute", "OUTSIDE/file"),
        ("directory", "../outside"),
        ("sly", "dir/deep/../../../outside"),
        ("around", "../workspace/dir/file"),
        ("behind", "/workspace/../outside/file"),
        ("like", "/workspaces/file"),
        ("chain", "second"),
        ("second", "dir/third"),
        ("dir/third", "../../outside/file"),
        ("root", "/"),
        ("proc", "/proc/self/root"),
        ("loop", "pool"),
        ("pool", "loop"),
    ]);
    let sandbox = linked(&links).await;
    let anyway =
        WriteOptions { existing: Existing::Replace, parents: Parents::Make, max_bytes: None };
    for (path, reason) in [
        ("relative", Reason::OutsideWorkspace),
        ("absolute", Reason::OutsideWorkspace),
        ("directory/file", Reason::OutsideWorkspace),
        ("directory/new", Reason::OutsideWorkspace),
        ("directory", Reason::OutsideWorkspace),
        ("sly/file", Reason::OutsideWorkspace),
        ("around", Reason::OutsideWorkspace),
        ("behind", Reason::OutsideWorkspace),
        ("like", Reason::OutsideWorkspace),
        ("chain", Reason::OutsideWorkspace),
        ("root/etc/passwd", Reason::OutsideWorkspace),
        ("proc/etc/passwd", Reason::OutsideWorkspace),
        ("loop", Reason::InvalidPath),
        ("loop/file", Reason::InvalidPath),
        ("long0", Reason::InvalidPath),
    ] {
        refused(sandbox.read(path).await, reason, path);
        refused(sandbox.guest.stat(path).await, reason, path);
        refused(sandbox.guest.list_directory(path).await, reason, path);
        let written = sandbox.guest.write_whole(path, anyway, Bytes::from_static(b"x")).await;
        refused(written, reason, path);
    }
    for path in ["directory/new", "sly/new", "root/new"] {
        let made = sandbox.guest.make_directory(path, Parents::Make).await;
        refused(made, Reason::OutsideWorkspace, path);
        refused(sandbox.guest.delete(path).await, Reason::OutsideWorkspace, path);
        let moved = sandbox.guest.rename("dir/file", path, Existing::Replace).await;
        refused(moved, Reason::OutsideWorkspace, path);
        let moved = sandbox.guest.rename(path, "dir/file", Existing::Replace).await;
        refused(moved, Reason::OutsideWorkspace, path);
    }
    assert_eq!(fs::read_dir(sandbox.outside()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(sandbox.outside().join("file")).unwrap(), "outside");
    // 40 links are as many as the kernel follows.
    fs::write(sandbox.workspace().join("long41"), "far").unwrap();
    assert_eq!(sandbox.read("long1").await.unwrap(), "far");
}

/// While `dir` is now a directory, now a link to one outside, nothing outside is read or changed.
#[tokio::test]
async fn a_race_with_a_link_is_lost_by_the_racer() {
    const ROUNDS: usize = 150;
    let sandbox = linked(&[("swap", "OUTSIDE")]).await;
    let over = Arc::new(AtomicBool::new(false));
    let root = sandbox.workspace();
    let racer = thread::spawn({
        let over = Arc::clone(&over);
        let (dir, swap): (PathBuf, PathBuf) = (root.join("dir"), root.join("swap"));
        move || {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &swap, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let anyway =
        WriteOptions { existing: Existing::Replace, parents: Parents::Make, max_bytes: None };
    let (mut n_inside, mut n_refused) = (0, 0);
    for i in 0..ROUNDS {
        match sandbox.read("dir/file").await {
            Ok(text) => {
                assert_eq!(text, "inside");
                n_inside += 1;
            }
            Err(error) => {
                assert!(error.reason().is_some(), "{error}");
                n_refused += 1;
            }
        }
        let text = Bytes::from_static(b"inside");
        let _ = sandbox.guest.write_whole("dir/file", REPLACE, text.clone()).await;
        let _ = sandbox.guest.write_whole(&format!("dir/deep/{i}"), anyway, text).await;
        let _ = sandbox.guest.make_directory(&format!("dir/made{i}"), Parents::Make).await;
        let _ = sandbox.guest.rename("dir/file", "dir/file2", Existing::Replace).await;
        let _ = sandbox.guest.rename("dir/file2", "dir/file", Existing::Replace).await;
        let _ = sandbox.guest.delete(&format!("dir/deep/{i}")).await;
        if let Ok(listed) = sandbox.guest.list_directory("dir").await {
            assert!(listed.iter().any(|entry| entry.name == "deep"), "{listed:?}");
        }
    }
    over.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    assert!(n_inside > 0 && n_refused > 0, "the race was none: {n_inside} to {n_refused}");
    let names: Vec<_> = fs::read_dir(sandbox.outside()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(fs::read_to_string(sandbox.outside().join("file")).unwrap(), "outside");
}
