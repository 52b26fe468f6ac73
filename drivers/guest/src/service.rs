//! The calls of the guest protocol: reads requests, asks `commands`, `files` or `dial`, prints
//! answers. Decides nothing itself.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use protocol::{
    AcknowledgeReply, AcknowledgeRequest, CancelReply, CancelRequest, ConnectChunk, DeleteReply,
    FileStat, ForgetReply, ForgetRequest, HelloReply, HelloRequest, ListCommandsReply,
    ListCommandsRequest, ListDirectoryReply, MakeDirectoryRequest, MoveRequest, PROTOCOL_VERSION,
    PathRequest, ReadChunk, ReadRequest, StartReply, StartRequest, WatchEvent, WatchRequest,
    WriteChunk, guest_server::Guest,
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    commands::Commands,
    dial,
    files::{Refusal, Workspace, download, upload},
};

/// Everything that the calls are about.
pub struct Agent {
    boot_id: String,
    commands: Commands,
    workspace: Arc<Workspace>,
    greeted: Arc<Notify>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Agent {
    /// `greeted` is told when a client says hello.
    pub fn new(commands: Commands, workspace: Arc<Workspace>, greeted: Arc<Notify>) -> Self {
        Self { boot_id: workspace.boot_id().to_owned(), commands, workspace, greeted }
    }

    /// Does file work where it may block.
    async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Workspace) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let workspace = Arc::clone(&self.workspace);
        Ok(Response::new(crate::files::blocking(move || work(&workspace)).await?))
    }
}

#[tonic::async_trait]
impl Guest for Agent {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        // Keeps a permit when nobody waits yet or any more.
        self.greeted.notify_one();
        Ok(Response::new(HelloReply {
            protocol_version: PROTOCOL_VERSION,
            boot_id: self.boot_id.clone(),
        }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Result<Response<StartReply>, Status> {
        let already_started = self.commands.start(request.into_inner()).await?;
        Ok(Response::new(StartReply { already_started }))
    }

    type WatchStream = Answers<WatchEvent>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let WatchRequest { command_id, after_seq } = request.into_inner();
        let events = self.commands.get(&command_id)?.follow(after_seq);
        Ok(Response::new(Box::pin(events)))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeReply>, Status> {
        let AcknowledgeRequest { command_id, seq } = request.into_inner();
        self.commands.get(&command_id)?.acknowledge(seq);
        Ok(Response::new(AcknowledgeReply {}))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelReply>, Status> {
        let was_running = self.commands.cancel(request.into_inner()).await?;
        Ok(Response::new(CancelReply { was_running }))
    }

    async fn forget(
        &self,
        request: Request<ForgetRequest>,
    ) -> Result<Response<ForgetReply>, Status> {
        self.commands.forget(&request.into_inner().command_id);
        Ok(Response::new(ForgetReply {}))
    }

    async fn list_commands(
        &self,
        _: Request<ListCommandsRequest>,
    ) -> Result<Response<ListCommandsReply>, Status> {
        Ok(Response::new(ListCommandsReply { commands: self.commands.list() }))
    }

    async fn list_directory(
        &self,
        request: Request<PathRequest>,
    ) -> Result<Response<ListDirectoryReply>, Status> {
        let path = request.into_inner().path;
        self.files(move |workspace| {
            Ok(ListDirectoryReply { entries: workspace.list(&path.parse()?)? })
        })
        .await
    }

    async fn stat(&self, request: Request<PathRequest>) -> Result<Response<FileStat>, Status> {
        let path = request.into_inner().path;
        self.files(move |workspace| workspace.stat(&path.parse()?)).await
    }

    type ReadStream = Answers<ReadChunk>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let ReadRequest { path, max_bytes } = request.into_inner();
        let opened =
            self.files(move |workspace| workspace.open_to_read(&path.parse()?, max_bytes)).await?;
        Ok(opened.map(|opened| Box::pin(download::chunks(opened)) as Answers<ReadChunk>))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteChunk>>,
    ) -> Result<Response<FileStat>, Status> {
        let workspace = Arc::clone(&self.workspace);
        Ok(Response::new(upload::receive(workspace, request.into_inner()).await?))
    }

    async fn delete(&self, request: Request<PathRequest>) -> Result<Response<DeleteReply>, Status> {
        let path = request.into_inner().path;
        self.files(move |workspace| workspace.delete(&path.parse()?)).await?;
        Ok(Response::new(DeleteReply {}))
    }

    async fn make_directory(
        &self,
        request: Request<MakeDirectoryRequest>,
    ) -> Result<Response<FileStat>, Status> {
        let MakeDirectoryRequest { path, parents } = request.into_inner();
        self.files(move |workspace| workspace.make_directory(&path.parse()?, parents)).await
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<FileStat>, Status> {
        let MoveRequest { from, to, overwrite } = request.into_inner();
        self.files(move |workspace| workspace.rename(&from.parse()?, &to.parse()?, overwrite)).await
    }

    type DialStream = Answers<ConnectChunk>;

    async fn dial(
        &self,
        request: Request<Streaming<ConnectChunk>>,
    ) -> Result<Response<Self::DialStream>, Status> {
        Ok(Response::new(Box::pin(dial::dial(request.into_inner()).await?)))
    }
}
