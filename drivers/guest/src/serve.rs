//! Starts the agent: prepares the process, takes the listening socket and serves until killed, or
//! until it is clear that nobody will come. The calls themselves are in `service`.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    sync::{Arc, RwLock, mpsc},
    time::Duration,
};

use protocol::guest_server::GuestServer;
use rustix::{
    fs::Mode,
    process::{
        DumpableBehavior, Resource, Rlimit, getpid, getrlimit, set_child_subreaper,
        set_dumpable_behavior, setrlimit, umask,
    },
    stdio::dup2_stdin,
};
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tonic::transport::Server;

use crate::{
    arguments::{Arguments, Listen},
    commands::{Commands, Reaper},
    files::Workspace,
    incoming,
    service::Agent,
};

/// Calls on one connection at a time: a watch for each running command, and then some.
const MAX_STREAMS: u32 = 1024;
/// What a client may send on one call, and on all together, before the agent has read it. The first
/// is small beside the second, so that a few calls that are not read do not hold up the others.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// The largest request message; the protocol's largest answer is a directory of 2 MiB.
const MAX_REQUEST: usize = 1 << 20;
const MAX_ANSWER: usize = 3 << 20;
/// A silent connection is asked this often whether it lives, and has this long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Threads for file work, which may block. All are made at the start and kept, because commands may
/// use up all processes that the sandbox may have, and threads count; so they are few.
const N_BLOCKING_THREADS: usize = 8;
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How long making them may take.
const START_THREADS: Duration = Duration::from_secs(10);

/// Serves until the process is killed or stays idle.
///
/// # Errors
/// The socket, the workspace or the runtime could not be set up.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let n_files = prepare_process()?;
    let listener = take_listener(&arguments.listen)?;
    let workspace = Workspace::open(&arguments.workspace)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(N_BLOCKING_THREADS)
        .thread_keep_alive(FOR_EVER)
        .enable_all()
        .build()?;
    start_threads(&runtime)?;
    runtime.block_on(async {
        // Registered before the first child can exist, so that no end of one is missed.
        let endings = signal(SignalKind::child())?;
        let reaper = Arc::new(Reaper::new(n_files)?);
        tokio::spawn(Arc::clone(&reaper).run(endings));
        let greeted = Arc::new(Notify::new());
        let workspace = Arc::new(workspace);
        let commands = Commands::new(reaper, Arc::clone(&workspace));
        let agent = Agent::new(commands, workspace, Arc::clone(&greeted));
        tokio::select! {
            served = serve(listener, agent) => served,
            () = idle(arguments.exit_if_idle, &greeted) => Ok(()),
        }
    })
}

/// Has the runtime make all its threads for blocking work.
fn start_threads(runtime: &Runtime) -> io::Result<()> {
    // Each holds its thread until all have one.
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().map_err(|_| io::Error::other("the gate is broken"))?;
    let (here, arrivals) = mpsc::channel();
    for _ in 0..N_BLOCKING_THREADS {
        let (gate, here) = (Arc::clone(&gate), here.clone());
        runtime.spawn_blocking(move || {
            let _ = here.send(());
            drop(gate.read());
        });
    }
    let arrived = (0..N_BLOCKING_THREADS).try_for_each(|_| arrivals.recv_timeout(START_THREADS));
    drop(closed);
    arrived.map_err(io::Error::other)
}

/// Sets what holds for the whole process; returns the soft limit of open files for its children.
fn prepare_process() -> io::Result<Option<u64>> {
    close_inherited()?;
    // Commands run as the same user: they must not trace the agent or open its descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Orphans come here even where the agent is not the first process, so none stays a zombie.
    set_child_subreaper(Some(getpid()))?;
    umask(Mode::WGRP | Mode::WOTH);
    // Three descriptors a command and one a connection can exceed the usual soft limit of 1024, while
    // children keep that limit because programs that use select() break above it.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.current)
}

/// Closes what the agent was started with besides the standard three: whoever started the server may
/// have left descriptors open, and commands must not get them.
fn close_inherited() -> io::Result<()> {
    let fds: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in fds {
        // Nothing in this process owns one of them yet, and that of the directory is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

fn take_listener(listen: &Listen) -> io::Result<OwnedFd> {
    match listen {
        Listen::Stdin => {
            let socket = io::stdin().as_fd().try_clone_to_owned()?;
            dup2_stdin(File::open("/dev/null")?)?;
            Ok(socket)
        }
        Listen::Path(path) => Ok(UnixListener::bind(path)?.into()),
    }
}

async fn serve(listener: OwnedFd, agent: Agent) -> io::Result<()> {
    let service = GuestServer::new(agent)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_ANSWER);
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_ANSWER))
        // A client that gives up many calls at once is no attacker.
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
        .add_service(service)
        .serve_with_incoming(incoming::connections(listener)?)
        .await
        .map_err(io::Error::other)
}

/// Returns when nobody has said hello for this long since the start; else never.
async fn idle(limit: Option<Duration>, greeted: &Notify) {
    let Some(limit) = limit else { return std::future::pending().await };
    if tokio::time::timeout(limit, greeted.notified()).await.is_ok() {
        std::future::pending().await
    }
}
