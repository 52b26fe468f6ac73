//! Connects to a port inside the sandbox and carries bytes both ways. Knows nothing of what is spoken
//! there.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use protocol::{ConnectChunk, Reason, connect_chunk::Part};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

/// A port takes what was sent to it within this, or the connection ends. Nothing else tells of a client that
/// is gone while the rest of what it sent waits here, and that takes room from all other calls.
const STALL: Duration = Duration::from_secs(60);
/// A loopback connection is made at once or not at all, unless the listener's queue is full.
const CONNECT: Duration = Duration::from_secs(5);
const READ_SIZE: usize = 64 << 10;

/// Connects to the port of the first message; the answer carries what the port sends.
pub async fn dial(
    mut from_client: Streaming<ConnectChunk>,
) -> Result<impl Stream<Item = Result<ConnectChunk, Status>>, Status> {
    let first = from_client.message().await?.and_then(|chunk| chunk.part);
    let Some(Part::Port(port)) = first else {
        return Err(Status::invalid_argument("the first message must carry a port"));
    };
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Status::invalid_argument("no such port"))?;
    let (read, write) = connect(port).await?.into_split();
    let towards_port = AbortOnDropHandle::new(tokio::spawn(forward(from_client, write)));
    Ok(stream::unfold(Rest::Both(read, towards_port), next))
}

async fn connect(port: u16) -> Result<TcpStream, Status> {
    let refused = |why: String| Reason::ConnectionRefused.status(why);
    let connecting = async {
        // Some servers listen on "localhost" and get only its IPv6 address.
        match TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Err(_) => TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await,
            connected => connected,
        }
    };
    let stream = timeout(CONNECT, connecting).await.map_err(|_| refused("timed out".into()))?;
    let stream = stream.map_err(|error| refused(error.to_string()))?;
    // Small writes of an interactive protocol must not wait for each other.
    stream.set_nodelay(true).map_err(|error| refused(error.to_string()))?;
    Ok(stream)
}

/// What is left of a connection: both directions, one of them, or nothing.
enum Rest {
    Both(OwnedReadHalf, AbortOnDropHandle<io::Result<()>>),
    FromPort(OwnedReadHalf),
    TowardsPort(AbortOnDropHandle<io::Result<()>>),
    Nothing,
}

async fn next(rest: Rest) -> Option<(Result<ConnectChunk, Status>, Rest)> {
    let (mut read, mut towards_port) = match rest {
        Rest::Both(read, towards_port) => (read, Some(towards_port)),
        Rest::FromPort(read) => (read, None),
        // The client may go on sending after the port has closed its side.
        Rest::TowardsPort(towards_port) => {
            let _ = towards_port.await;
            return None;
        }
        Rest::Nothing => return None,
    };
    let mut buffer = BytesMut::with_capacity(READ_SIZE);
    let n_read = loop {
        let Some(towards) = &mut towards_port else { break read.read_buf(&mut buffer).await };
        tokio::select! {
            n_read = read.read_buf(&mut buffer) => break n_read,
            ended = towards => match ended {
                // All of it ends, or the client would wait with the rest for ever.
                Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => break Err(error),
                // What the port has to say it may say all the same.
                Ok(_) | Err(_) => towards_port = None,
            }
        }
    };
    match n_read {
        Ok(0) => {
            let rest = towards_port.map_or(Rest::Nothing, Rest::TowardsPort);
            Some((Ok(data(Bytes::new())), rest))
        }
        Ok(_) => {
            let rest = match towards_port {
                Some(towards_port) => Rest::Both(read, towards_port),
                None => Rest::FromPort(read),
            };
            Some((Ok(data(buffer.freeze())), rest))
        }
        Err(error) => Some((Err(Status::unavailable(error.to_string())), Rest::Nothing)),
    }
}

fn data(bytes: Bytes) -> ConnectChunk {
    ConnectChunk { part: Some(Part::Data(bytes)) }
}

/// Writes what the client sends until it closes its direction. A call that ends without that was
/// given up; the connection then closes with the answer's end.
async fn forward(mut from: Streaming<ConnectChunk>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Ok(Some(chunk)) = from.message().await {
        let Some(Part::Data(bytes)) = chunk.part else { break };
        if bytes.is_empty() {
            break;
        }
        let taken = timeout(STALL, to.write_all(&bytes)).await;
        taken.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the port takes nothing"))??;
    }
    to.shutdown().await
}
