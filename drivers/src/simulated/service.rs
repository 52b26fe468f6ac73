//! The guest protocol in front of a simulated sandbox: turns messages into calls and refusals into
//! statuses. Decides nothing that the real agent would decide otherwise.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream as FutureStream, stream};
use protocol::{
    AcknowledgeReply, AcknowledgeRequest, CancelMode, CancelReply, CancelRequest, ConnectChunk,
    DeleteReply, FileStat, ForgetReply, ForgetRequest, HelloReply, HelloRequest, ListCommandsReply,
    ListCommandsRequest, ListDirectoryReply, MakeDirectoryRequest, MoveRequest, PROTOCOL_VERSION,
    PathRequest, ReadChunk, ReadRequest, Reason, StartReply, StartRequest, WatchEvent,
    WatchRequest, WriteChunk, WriteOpen, connect_chunk, guest_server, read_chunk, watch_event,
    write_chunk,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, split},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    commands::{Command, Schedule},
    filesystem::{Address, Existing, Parents},
    machine::Machine,
    process::{self, Process},
    shell::Shell,
    transport,
};
use crate::driver::BoxedStream;

const CHUNK_BYTES: usize = 256 * 1024;
const QUEUE: usize = 16;
/// A port takes what was sent to it within this, or the connection ends. The agent gives it longer.
const STALL: Duration = Duration::from_secs(10);

type Reply<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn FutureStream<Item = Result<T, Status>> + Send>>;

/// Opens a connection to the sandbox and serves the protocol on its other end.
pub(super) fn connect(machine: &Arc<Machine>) -> BoxedStream {
    let (client, server) = transport::cuttable_pipe(machine.connection_token());
    let service = guest_server::GuestServer::new(Service(Arc::clone(machine)));
    let incoming = stream::iter([Ok::<_, std::io::Error>(server)]);
    // It ends when the client goes away or the pipe is cut; either is as it should be.
    tokio::spawn(async move {
        let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
    });
    Box::new(client)
}

struct Service(Arc<Machine>);

fn refusal(reason: Reason) -> Status {
    reason.status(reason.wire_name())
}

/// Runs a file operation on a path of a guest call.
fn at<T>(path: &str, operation: impl FnOnce(&Address) -> Result<T, Reason>) -> Result<T, Status> {
    Address::in_workspace(path).and_then(|address| operation(&address)).map_err(refusal)
}

fn existing(overwrite: bool) -> Existing {
    if overwrite { Existing::Replace } else { Existing::Keep }
}

fn parents(create: bool) -> Parents {
    if create { Parents::Create } else { Parents::Require }
}

#[tonic::async_trait]
impl guest_server::Guest for Service {
    type WatchStream = Events<WatchEvent>;
    type ReadStream = Events<ReadChunk>;
    type DialStream = Events<ConnectChunk>;

    async fn hello(&self, _: Request<HelloRequest>) -> Reply<HelloReply> {
        let boot_id = self.0.boot_id.clone();
        Ok(Response::new(HelloReply { protocol_version: PROTOCOL_VERSION, boot_id }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Reply<StartReply> {
        let request = request.into_inner();
        let already_started = !self.0.start(request).map_err(refusal)?;
        Ok(Response::new(StartReply { already_started }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Reply<Self::WatchStream> {
        let request = request.into_inner();
        let command = self.0.commands.get(&request.command_id).map_err(refusal)?;
        let (events, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(follow(command, request.after_seq, events));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn acknowledge(&self, request: Request<AcknowledgeRequest>) -> Reply<AcknowledgeReply> {
        let request = request.into_inner();
        let command = self.0.commands.get(&request.command_id).map_err(refusal)?;
        command.progress.send_modify(|progress| progress.output.acknowledge(request.seq));
        Ok(Response::new(AcknowledgeReply {}))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Reply<CancelReply> {
        let request = request.into_inner();
        let command = self.0.commands.get(&request.command_id).map_err(refusal)?;
        let was_running = command.is_running();
        let mode = match request.mode() {
            CancelMode::Force => CancelMode::Force,
            CancelMode::Graceful | CancelMode::Unspecified => CancelMode::Graceful,
        };
        let grace = Duration::from_millis(request.grace_ms);
        command.schedule.send_modify(|schedule| schedule.cancel(self.0.now(), mode, grace));
        Ok(Response::new(CancelReply { was_running }))
    }

    async fn forget(&self, request: Request<ForgetRequest>) -> Reply<ForgetReply> {
        self.0.commands.forget(&request.into_inner().command_id);
        Ok(Response::new(ForgetReply {}))
    }

    async fn list_commands(&self, _: Request<ListCommandsRequest>) -> Reply<ListCommandsReply> {
        Ok(Response::new(ListCommandsReply { commands: self.0.commands.list() }))
    }

    async fn list_directory(&self, request: Request<PathRequest>) -> Reply<ListDirectoryReply> {
        let path = request.into_inner().path;
        let entries = at(&path, |address| self.0.filesystem().list(address))?;
        Ok(Response::new(ListDirectoryReply { entries }))
    }

    async fn stat(&self, request: Request<PathRequest>) -> Reply<FileStat> {
        let path = request.into_inner().path;
        at(&path, |address| self.0.filesystem().stat(address)).map(Response::new)
    }

    async fn read(&self, request: Request<ReadRequest>) -> Reply<Self::ReadStream> {
        let request = request.into_inner();
        let (stat, data) = at(&request.path, |address| self.0.filesystem().read(address))?;
        if request.max_bytes > 0 && stat.size_bytes > request.max_bytes {
            return Err(refusal(Reason::FileTooLarge));
        }
        let mut parts = vec![read_chunk::Part::Stat(stat)];
        parts.extend(
            data.chunks(CHUNK_BYTES).map(|chunk| read_chunk::Part::Data(chunk.to_vec().into())),
        );
        let chunks = parts.into_iter().map(|part| Ok(ReadChunk { part: Some(part) }));
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn write(&self, request: Request<Streaming<WriteChunk>>) -> Reply<FileStat> {
        let mut chunks = request.into_inner();
        let Some(write_chunk::Part::Open(open)) = next_part(&mut chunks).await? else {
            return Err(Status::invalid_argument("the first message opens the file"));
        };
        let (existing, parents) = (existing(open.overwrite), parents(open.create_parents));
        at(&open.path, |address| self.0.filesystem().may_write(address, existing, parents))?;
        let data = collect(&open, &mut chunks).await?;
        let now = self.0.now();
        at(&open.path, |address| self.0.filesystem().write(address, data, existing, parents, now))
            .map(Response::new)
    }

    async fn delete(&self, request: Request<PathRequest>) -> Reply<DeleteReply> {
        let path = request.into_inner().path;
        at(&path, |address| self.0.filesystem().delete(address, self.0.now()))?;
        Ok(Response::new(DeleteReply {}))
    }

    async fn make_directory(&self, request: Request<MakeDirectoryRequest>) -> Reply<FileStat> {
        let request = request.into_inner();
        let (now, parents) = (self.0.now(), parents(request.parents));
        at(&request.path, |address| self.0.filesystem().make_directory(address, parents, now))
            .map(Response::new)
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Reply<FileStat> {
        let request = request.into_inner();
        let existing = existing(request.overwrite);
        let moved = at(&request.from, |from| {
            let to = Address::in_workspace(&request.to)?;
            self.0.filesystem().rename(from, &to, existing, self.0.now())
        });
        moved.map(Response::new)
    }

    async fn dial(&self, request: Request<Streaming<ConnectChunk>>) -> Reply<Self::DialStream> {
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.and_then(|chunk| chunk.part);
        let Some(connect_chunk::Part::Port(port)) = first else {
            return Err(Status::invalid_argument("the first message names the port"));
        };
        let cut = self.0.connection_token().child_token();
        let socket = u16::try_from(port)
            .ok()
            .and_then(|port| self.0.ports.dial(port, cut.clone()))
            .ok_or_else(|| refusal(Reason::ConnectionRefused))?;
        let (receiver, mut sender) = split(socket);
        let towards_port = tokio::spawn(async move {
            while let Ok(Some(chunk)) = chunks.message().await {
                let Some(connect_chunk::Part::Data(data)) = chunk.part else { break };
                match timeout(STALL, sender.write_all(&data)).await {
                    Ok(Ok(())) if !data.is_empty() => {}
                    Ok(_) => break,
                    Err(_) => {
                        cut.cancel();
                        break;
                    }
                }
            }
            // The peer may have closed first.
            let _ = sender.shutdown().await;
        });
        let connection = Connection { receiver: Some(receiver), towards_port };
        Ok(Response::new(Box::pin(stream::unfold(connection, next_bytes))))
    }
}

impl Machine {
    /// Starts a command; false when one of its id was started before.
    fn start(self: &Arc<Self>, request: StartRequest) -> Result<bool, Reason> {
        let cwd = if request.cwd.is_empty() { protocol::WORKSPACE } else { &request.cwd };
        let cwd = self.filesystem().directory(&Address::in_workspace(cwd)?)?;
        let started_at = self.now();
        let timeout = Duration::from_millis(request.timeout_ms);
        let grace = Duration::from_millis(request.grace_ms);
        let schedule = Schedule::with_timeout(started_at, timeout, grace);
        let Some(command) = self.commands.add(&request.command_id, schedule)? else {
            return Ok(false);
        };
        let mut variables = self.env.clone();
        variables.extend(request.env);
        variables.insert("CROWNEST_COMMAND_ID".to_owned(), request.command_id);
        let process = Process::new(Arc::clone(self), Arc::clone(&command), started_at);
        let shell = Shell::new(process, cwd, variables);
        tokio::spawn(process::run(shell, command, request.command_line));
        Ok(true)
    }
}

/// Sends a command's output and then its exit, until the watcher goes away.
async fn follow(
    command: Arc<Command>,
    mut after_seq: u64,
    events: mpsc::Sender<Result<WatchEvent, Status>>,
) {
    let mut progress = command.progress.subscribe();
    loop {
        let (pieces, exit) = {
            let progress = progress.borrow_and_update();
            (progress.output.after(after_seq), progress.exit.clone())
        };
        for piece in pieces {
            after_seq = piece.seq;
            let event = watch_event::Event::Output(piece);
            if events.send(Ok(WatchEvent { event: Some(event) })).await.is_err() {
                return;
            }
        }
        if let Some(exit) = exit {
            let event = watch_event::Event::Exit(exit);
            // A watcher who has gone away needs no exit.
            let _ = events.send(Ok(WatchEvent { event: Some(event) })).await;
            return;
        }
        tokio::select! {
            _ = progress.changed() => {}
            () = events.closed() => return,
        }
    }
}

async fn next_part(
    chunks: &mut Streaming<WriteChunk>,
) -> Result<Option<write_chunk::Part>, Status> {
    Ok(chunks.message().await?.and_then(|chunk| chunk.part))
}

/// Collects an upload up to its commit, refusing it as soon as it is too large.
async fn collect(open: &WriteOpen, chunks: &mut Streaming<WriteChunk>) -> Result<Vec<u8>, Status> {
    let mut data = Vec::new();
    loop {
        match next_part(chunks).await? {
            Some(write_chunk::Part::Data(chunk)) => data.extend(chunk),
            Some(write_chunk::Part::Commit(_)) => return Ok(data),
            Some(write_chunk::Part::Open(_)) => {
                return Err(Status::invalid_argument("a file is opened once"));
            }
            None => return Err(Status::aborted("the upload was cut off")),
        }
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if open.max_bytes > 0 && size > open.max_bytes {
            return Err(refusal(Reason::FileTooLarge));
        }
    }
}

/// A connection to a port.
struct Connection {
    /// Until the port sends no more.
    receiver: Option<ReadHalf<DuplexStream>>,
    towards_port: JoinHandle<()>,
}

/// The next bytes that a port sends; an empty message, once, when it sends no more. The client may go on
/// after that.
async fn next_bytes(
    mut connection: Connection,
) -> Option<(Result<ConnectChunk, Status>, Connection)> {
    let Some(receiver) = &mut connection.receiver else {
        // However it ended.
        let _ = connection.towards_port.await;
        return None;
    };
    let mut data = vec![0; CHUNK_BYTES];
    let n_bytes = receiver.read(&mut data).await.unwrap_or(0);
    if n_bytes == 0 {
        connection.receiver = None;
    }
    data.truncate(n_bytes);
    let chunk = ConnectChunk { part: Some(connect_chunk::Part::Data(data.into())) };
    Some((Ok(chunk), connection))
}
