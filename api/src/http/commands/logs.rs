//! What commands print, on the wire (contract, section 10.4): pages, the live stream, the download.

use futures_util::StreamExt;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::{Enum, Object, OpenApi, param::Path};

use chrono::{DateTime, Utc};
use domain::{Code, Refused, command::OutputStream, id::CommandId};
use store::commands::LogChunk;

use super::sse;
use crate::{
    app::{DownloadUrl, commands},
    http::{
        Tag,
        context::Context,
        error::ApiError,
        extract::{AfterSeq, Auth, BaseUrl, Limit, Param, Query},
        responses::{EventStream, Json, TextStream},
        wire::Wire,
    },
};

/// A piece of a command's output.
#[derive(Debug, Object)]
#[oai(rename = "CommandLog", rename_all = "camelCase")]
struct LogView {
    command_id: Wire<CommandId>,
    /// Its place in the output of both streams together; the first is 1.
    seq: u64,
    stream: Wire<OutputStream>,
    data: String,
    created_at: Wire<DateTime<Utc>>,
}

impl LogView {
    fn new(id: CommandId, chunk: LogChunk) -> Self {
        Self {
            command_id: Wire(id),
            seq: chunk.seq,
            stream: Wire(chunk.stream),
            data: chunk.data,
            created_at: Wire(chunk.created_at),
        }
    }
}

/// A part of a command's output.
#[derive(Debug, Object)]
#[oai(rename = "CommandLogs", rename_all = "camelCase")]
struct LogsView {
    data: Vec<LogView>,
    /// Whether there is more at present.
    has_more: bool,
    /// Where to go on: the next request's `afterSeq`.
    next_seq: u64,
}

/// A link that works without a credential until it expires.
#[derive(Debug, Object)]
#[oai(rename = "CommandLogsDownloadUrl", rename_all = "camelCase")]
struct UrlView {
    url: String,
    method: Get,
    expires_at: Wire<DateTime<Utc>>,
}

/// The method of a link.
#[derive(Debug, Enum)]
#[oai(rename = "DownloadMethod", rename_all = "UPPERCASE")]
pub enum Get {
    Get,
}

impl From<DownloadUrl> for UrlView {
    fn from(made: DownloadUrl) -> Self {
        Self { url: made.url, method: Get::Get, expires_at: Wire(made.expires_at) }
    }
}

/// Where an interrupted stream goes on, as browsers say it: another name for `afterSeq`.
#[derive(Debug)]
struct LastEventId(Option<u64>);

impl<'a> FromRequest<'a> for LastEventId {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let seq = request.header("last-event-id").map(|text| AfterSeq::read("Last-Event-ID", text));
        Ok(Self(seq.transpose().map_err(ApiError::from)?.map(|seq| seq.0)))
    }
}

/// The routes of commands' output.
#[derive(Debug)]
pub struct Logs;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Commands")]
impl Logs {
    /// Read a part of a command's output; works while it runs and after its sandbox is gone.
    #[oai(path = "/commands/:commandId/logs", method = "get", operation_id = "listCommandLogs")]
    async fn list(
        &self,
        caller: Auth,
        #[oai(name = "commandId")] id: Path<Wire<CommandId>>,
        #[oai(name = "afterSeq")] after_seq: Query<AfterSeq>,
        limit: Query<Limit<100>>,
    ) -> Result<Json<LogsView>, ApiError> {
        let (id, after_seq) = (id.0.0, after_seq.0.0);
        let page = commands::logs(caller.app(), &caller, id, after_seq, limit.0.0).await?;
        let next_seq = page.items.last().map_or(after_seq, |chunk| chunk.seq);
        let data = page.items.into_iter().map(|chunk| LogView::new(id, chunk)).collect();
        Ok(Json(LogsView { data, has_more: page.has_more, next_seq }))
    }

    /// Follow a command's output.
    ///
    /// Server-sent events; the data of each is a JSON object whose `type` is `log` (`seq`, `stream`,
    /// `data`), `heartbeat`, `terminal` (`command`) or `error` (`code`, `message`), each with
    /// `createdAt`. What is retained comes first, then what is new, then one `terminal` or `error`.
    #[oai(path = "/commands/:commandId/stream", method = "get", operation_id = "streamCommandLogs")]
    async fn stream(
        &self,
        caller: Auth,
        #[oai(name = "commandId")] id: Path<Wire<CommandId>>,
        #[oai(name = "afterSeq")] after_seq: Query<Option<AfterSeq>>,
        last_event_id: LastEventId,
    ) -> Result<EventStream<sse::Event>, ApiError> {
        let after_seq = after_seq.0.map(|seq| seq.0).or(last_event_id.0).unwrap_or(0);
        let events = commands::stream(caller.app(), &caller, id.0.0, after_seq).await?;
        Ok(EventStream::new(events.map(|event| sse::frame(&event))))
    }

    /// Make a link to the whole output as text.
    #[oai(
        path = "/commands/:commandId/logs/download-url",
        method = "post",
        operation_id = "createCommandLogsDownloadUrl"
    )]
    async fn create_download_url(
        &self,
        caller: Auth,
        #[oai(name = "commandId")] id: Path<Wire<CommandId>>,
        base: BaseUrl,
    ) -> Result<Json<UrlView>, ApiError> {
        let made = commands::log_download_url(caller.app(), &caller, id.0.0, &base.0).await?;
        Ok(Json(made.into()))
    }

    /// Download the whole output as text, by a link.
    #[oai(
        path = "/commands/:commandId/logs/download",
        method = "get",
        operation_id = "downloadCommandLogs"
    )]
    async fn download(
        &self,
        context: Context,
        #[oai(name = "commandId")] id: Path<Wire<CommandId>>,
        /// The link's.
        token: Query<Option<String>>,
    ) -> Result<TextStream, ApiError> {
        let missing = || Refused::new(Code::Unauthorized, "the link's token is missing");
        let token = token.0.ok_or_else(missing)?;
        Ok(TextStream::new(commands::log_text(context.app(), id.0.0, &token).await?))
    }
}
