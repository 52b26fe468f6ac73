//! Writes a machine down and has it go on later. Until a machine has gone on its state is as it was, so a
//! try that fails is as good as none; from then on its disk is ahead of what was written down, so what does
//! not answer then is ended for good.
//!
//! What is written down lies where the VMM can write, and a VMM may have been taken over: nothing there is
//! followed, and nothing is changed there before it has ended.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    },
    path::Path,
    time::Duration,
};

use chrono::{DateTime, Utc};
use protocol::READY_PORT;
use rustix::fs::{Mode, OFlags, open, openat, renameat};
use serde_json::Value;

use super::{
    client::Client,
    convert::{self, API, MEMORY, SNAPSHOT, Then, VSOCK},
    lifecycle::Sandbox,
    limits::limit_cpu,
    machine::{Machine, Started, answers_in_a_version},
    waking::lastingly,
    warm::{CONFIG, Stamp},
    wire::VmState,
};
use crate::{
    driver::ErrorKind,
    jail::{
        failure::{Doing, Failure, Result},
        hold::{Held, within},
        record::{Mark, private_directory},
    },
};

/// A VMM that waits for what was written down is there within this.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// A configuration is not longer than this.
const MAX_CONFIG: u64 = 1 << 20;

impl Sandbox {
    /// Writes it down and ends its VMM, unless that is done already.
    pub async fn suspend(&self) -> Result<()> {
        let lock = self.hold().lock().await?;
        let directory = &self.hold().directory;
        if directory.is(Mark::Suspended) {
            return self.let_go().await;
        }
        if self.running().await?.is_none() {
            lock.delete();
            let text = format!("{} neither runs nor is suspended", self.hold().id);
            return Err(Failure::new(ErrorKind::Gone, text));
        }
        directory.set(Mark::Held)?;
        if let Err(failure) = self.machine.write_down().await {
            // Has it go on.
            if self.running().await?.is_none() {
                lock.delete();
            }
            return Err(failure);
        }
        directory.set(Mark::Suspended)?;
        self.let_go().await?;
        // All of a machine's memory is written down, and a copy that it began with is of no more use.
        let memory = self.machine.run().join(MEMORY);
        absent(&memory, fs::remove_file(&memory))
    }
}

impl Machine {
    #[tracing::instrument(level = "debug", skip_all)]
    async fn write_down(&self) -> Result<()> {
        let client = Client::new(self.run());
        client.pause().await?;
        let snapshot = self.run().join(SNAPSHOT);
        absent(&snapshot, fs::remove_dir_all(&snapshot))?;
        private_directory(&snapshot)?;
        if let Some(uid) = self.hold.user()? {
            let opened = open_directory(&snapshot);
            opened
                .and_then(|directory| fchown(directory, Some(uid), Some(uid)))
                .doing("give away", &snapshot)?;
        }
        client.snapshot(&convert::snapshot()).await
    }

    /// Has a suspended machine go on, in a VMM of its own.
    pub async fn go_on(&self) -> Result<DateTime<Utc>> {
        let directory = &self.hold.directory;
        let Started { mut record, launcher, process } = self.read_again().await?;
        record.inside = Some(process);
        directory.write(&record)?;
        directory.set(Mark::Held)?;
        directory.unset(Mark::Suspended)?;
        tokio::select! {
            answered = self.let_run() => answered?,
            failure = launcher.end() => return Err(failure),
        }
        directory.written_at()
    }

    /// Reads what was written down into a new VMM. Until that is done the machine is suspended, and may be
    /// given up at any point.
    async fn read_again(&self) -> Result<Started> {
        let started = within(READY_DEADLINE, self.start_again()).await?;
        let (client, restore) = (Client::new(self.run()), convert::restore(Then::Waits));
        // This has a deadline of its own, which is longer.
        tokio::select! {
            restored = client.restore(&restore) => restored?,
            failure = started.launcher.end() => return Err(failure),
        }
        Ok(started)
    }

    /// Starts a VMM that waits for what was written down, with the network that it had.
    async fn start_again(&self) -> Result<Started> {
        let spec = self.hold.directory.spec()?;
        let image = Stamp::read(&self.image_path())?.path;
        let (run, uid) = (self.run(), self.claim_user_again().await?);
        for socket in [API.to_owned(), VSOCK.to_owned(), format!("{VSOCK}_{READY_PORT}")] {
            let path = run.join(socket);
            absent(&path, fs::remove_file(&path))?;
        }
        let snapshot = run.join(SNAPSHOT);
        replace_config(&snapshot, uid)?;
        let begun = self.hold.begin_record()?;
        let launch = self.launch(&spec, &image, None, uid)?;
        let started = self.start_vmm(&spec, launch, begun).await?;
        let client = Client::new(&*run);
        let preparing = async {
            tokio::try_join!(
                self.open_network(started.process, uid, &spec.egress),
                answers_in_a_version(&client)
            )
        };
        tokio::select! {
            prepared = preparing => prepared?,
            failure = started.launcher.end() => return Err(failure),
        };
        Ok(started)
    }

    /// Claims the user that it had, who owns what its VMM wrote. Its addresses come from its user, and so do
    /// those that the machine has in its memory.
    pub async fn claim_user_again(&self) -> Result<Option<u32>> {
        let run = self.run();
        let had = fs::symlink_metadata(&run).doing("look at", &run)?.uid();
        self.hold.claim_user_again(had).await
    }

    /// Has a machine go on that may be paused, and returns when its agent answers. Each step has a deadline of
    /// its own: to give up on the whole would be the end of a machine that may be well.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn let_run(&self) -> Result<()> {
        let (run, directory) = (self.run(), &self.hold.directory);
        let client = Client::new(&*run);
        if let Some(record) = directory.read()? {
            limit_cpu(&record, &directory.spec()?)?;
        }
        if client.info().await?.state == VmState::Paused {
            client.resume().await?;
        }
        lastingly(move || async move {
            let mut machine = self.control().await?;
            Ok(machine.refresh(directory.set(Mark::Held)?).await?)
        })
        .await?;
        self.hello().await?;
        let snapshot = run.join(SNAPSHOT);
        absent(&snapshot, fs::remove_dir_all(&snapshot))?;
        directory.unset(Mark::Held)
    }
}

/// Puts the configuration of a machine with memory of its own in place of what was written down.
fn replace_config(snapshot: &Path, uid: Option<u32>) -> Result<()> {
    let read = |directory: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(directory, CONFIG, flags, Mode::empty())?);
        let mut text = String::new();
        file.take(MAX_CONFIG).read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    let write = |directory: &OwnedFd, text: &str| {
        const DRAFT: &str = "config.new";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        // A pipe that nobody reads would hold up whoever opens it.
        let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(directory, DRAFT, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        if uid.is_some() {
            fchown(&file, uid, uid)?;
        }
        io::Result::Ok(renameat(directory, DRAFT, directory, CONFIG)?)
    };
    let directory = open_directory(snapshot).doing("open", snapshot)?;
    let text = own_memory(&read(&directory).doing("read the configuration in", snapshot)?)?;
    write(&directory, &text).doing("write the configuration in", snapshot)
}

/// Turns a configuration, as the VMM wrote it down, into that of a machine whose memory is its own alone.
/// One that began with what another was has its memory in a file that is read and never written; all that
/// such a machine has is written down, and the file may be gone when it goes on.
fn own_memory(written: &str) -> Result<String> {
    let wrong = |what: &str| Failure::host(format!("what was written down of a machine {what}"));
    let mut config: Value =
        serde_json::from_str(written).map_err(|error| wrong(&format!("is no JSON: {error}")))?;
    let memory = config.get_mut("memory").and_then(Value::as_object_mut);
    let memory = memory.ok_or_else(|| wrong("has no memory"))?;
    for zone in memory.get_mut("zones").and_then(Value::as_array_mut).into_iter().flatten() {
        let zone = zone.as_object_mut().ok_or_else(|| wrong("has a memory zone that is none"))?;
        if zone.get("shared").and_then(Value::as_bool) == Some(true) {
            return Err(wrong("has memory that others may write to"));
        }
        zone.remove("file");
    }
    Ok(config.to_string())
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// Something that was removed, or was not there.
fn absent(path: &Path, removed: io::Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::mpsc, thread};

    use nix::{sys::stat::Mode as Open, unistd::mkfifo};

    use super::*;

    /// As Cloud Hypervisor 53.0 writes it.
    const WRITTEN: &str = include_str!("warm/config.golden.json");

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn memory_that_was_in_a_file_is_the_machines_own() {
        let mut clone = json(WRITTEN);
        clone["memory"]["zones"][0]["file"] = "/vm/golden".into();
        clone["memory"]["zones"][0]["shared"] = false.into();
        let owned = own_memory(&clone.to_string()).unwrap();
        clone["memory"]["zones"][0].as_object_mut().unwrap().remove("file");
        assert_eq!(json(&owned), clone, "nothing else differs");
        assert_eq!(json(&own_memory(&owned).unwrap()), clone, "nor the second time");
        let booted = r#"{"memory":{"size":1}}"#;
        assert_eq!(own_memory(booted).unwrap(), booted);
        for text in ["", "{}", WRITTEN, r#"{"memory":{"size":0,"zones":[7]}}"#] {
            assert!(own_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_that_a_vmm_left_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (text, elsewhere) = (r#"{"memory":{"size":1}}"#, path("elsewhere"));
        fs::write(&elsewhere, text).unwrap();
        fs::create_dir(path("snapshot")).unwrap();
        symlink(&elsewhere, path("snapshot/config.json")).unwrap();
        assert!(replace_config(&path("snapshot"), None).is_err(), "it is a link");
        fs::remove_file(path("snapshot/config.json")).unwrap();
        fs::write(path("snapshot/config.json"), text).unwrap();
        symlink(path("snapshot"), path("link")).unwrap();
        assert!(replace_config(&path("link"), None).is_err(), "the directory is one");
        symlink(&elsewhere, path("snapshot/config.new")).unwrap();
        assert!(replace_config(&path("snapshot"), None).is_err(), "it would be written to");
        fs::remove_file(path("snapshot/config.new")).unwrap();
        mkfifo(&path("snapshot/config.new"), Open::S_IRWXU).unwrap();
        let (snapshot, (done, is_done)) = (path("snapshot"), mpsc::channel());
        thread::spawn(move || done.send(replace_config(&snapshot, None).is_err()));
        assert_eq!(is_done.recv_timeout(Duration::from_secs(10)), Ok(true), "nobody reads it");
        fs::remove_file(path("snapshot/config.new")).unwrap();
        replace_config(&path("snapshot"), None).unwrap();
        let open = fs::metadata(path("snapshot/config.json")).unwrap().permissions().mode();
        assert_eq!(open & 0o777, 0o600);
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), text);
    }
}
