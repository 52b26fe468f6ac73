//! What no client of ours sends: the agent refuses it, goes on, and does not do it halfway.

use std::{fs, sync::Mutex};

use bytes::Bytes;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use protocol::{
    ConnectChunk, StartRequest, WriteChunk, WriteCommit, WriteOpen, connect_chunk,
    guest_client::GuestClient, write_chunk::Part,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::fixture::Sandbox;

/// A client of the bare protocol.
async fn bare(sandbox: &Sandbox) -> GuestClient<Channel> {
    let stream = Mutex::new(Some(sandbox.stream().await));
    let connector = service_fn(move |_| {
        let stream = stream.lock().unwrap().take().map(TokioIo::new);
        std::future::ready(
            stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)),
        )
    });
    let endpoint = Endpoint::from_static("http://guest");
    GuestClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

#[tokio::test]
async fn noise_is_no_harm() {
    let sandbox = Sandbox::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let noise: Vec<u8> =
        (0..100_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for said in [
        noise.clone(),
        [preface.clone(), noise].concat(),
        // A frame that says it is as long as can be, and is not.
        [preface, vec![0xff; 9]].concat(),
        b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        let mut stream = sandbox.stream().await;
        // The agent may hang up in the middle.
        let _ = stream.write_all(&said).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    sandbox.guest.hello().await.unwrap();
    assert_eq!(sandbox.run("exit 3").await.1.exit_code, 3);
}

#[tokio::test]
async fn uploads_are_taken_only_as_they_should_be() {
    let sandbox = Sandbox::start().await;
    let mut client = bare(&sandbox).await;
    let open = || {
        let path = "file".to_owned();
        Part::Open(WriteOpen { path, overwrite: true, create_parents: false, max_bytes: 0 })
    };
    let data = || Part::Data(Bytes::from_static(b"data"));
    let commit = || Part::Commit(WriteCommit {});
    for (parts, code, why) in [
        (vec![], Code::InvalidArgument, "nothing"),
        (vec![None], Code::InvalidArgument, "an empty message"),
        (vec![Some(data()), Some(commit())], Code::InvalidArgument, "no open"),
        (vec![Some(commit())], Code::InvalidArgument, "only a commit"),
        (vec![Some(open()), Some(open())], Code::InvalidArgument, "two opens"),
        (vec![Some(open()), None], Code::InvalidArgument, "an empty message later"),
        (vec![Some(open())], Code::Aborted, "no commit"),
        (vec![Some(open()), Some(data())], Code::Aborted, "no commit after data"),
    ] {
        let chunks = stream::iter(parts.into_iter().map(|part| WriteChunk { part }));
        let status = client.write(chunks).await.unwrap_err();
        assert_eq!(status.code(), code, "{why}: {status}");
        assert_eq!(fs::read_dir(sandbox.workspace()).unwrap().count(), 0, "{why}");
    }
    let parts = [open(), data(), commit()].map(|part| WriteChunk { part: Some(part) });
    client.write(stream::iter(parts)).await.unwrap();
    assert_eq!(sandbox.read("file").await.unwrap(), "data");
}

#[tokio::test]
async fn senseless_requests_are_refused() {
    let sandbox = Sandbox::start().await;
    let mut client = bare(&sandbox).await;
    let port = |port| ConnectChunk { part: Some(connect_chunk::Part::Port(port)) };
    let data = ConnectChunk { part: Some(connect_chunk::Part::Data(Bytes::from_static(b"x"))) };
    for chunks in [vec![], vec![data], vec![port(0)], vec![port(65_536)], vec![port(u32::MAX)]] {
        let status = client.dial(stream::iter(chunks)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let start = |id: &str| StartRequest { command_id: id.to_owned(), ..StartRequest::default() };
    for id in ["", "a\0b", "x".repeat(129).as_str()] {
        let status = client.start(start(id)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    // Times beyond the end of all clocks are no times at all.
    let endless = StartRequest { timeout_ms: u64::MAX, grace_ms: u64::MAX, ..start("endless") };
    client.start(endless).await.unwrap();
    let too_large = StartRequest { command_line: "x".repeat(2 << 20), ..start("large") };
    assert_eq!(client.start(too_large).await.unwrap_err().code(), Code::OutOfRange);
    sandbox.guest.hello().await.unwrap();
}
