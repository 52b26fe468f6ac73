//! Connections to ports inside the sandbox; here that is the loopback of the host.

use drivers::guest::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::fixture::{PATIENCE, Sandbox, refused};

async fn listener(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_closes_by_itself() {
    let sandbox = Sandbox::start().await;
    let (listener, port) = listener("127.0.0.1:0").await;
    let mut client = sandbox.guest.dial(port).await.unwrap();
    let mut server = accept(&listener).await;

    client.write_all(b"question").await.unwrap();
    let mut buffer = [0; 8];
    server.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"question");
    // The client has asked all it wants, the server answers after that.
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
    server.write_all(b"the answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "the answer");

    // And the other way round.
    let mut client = sandbox.guest.dial(port).await.unwrap();
    let mut server = accept(&listener).await;
    server.write_all(b"greeting").await.unwrap();
    server.shutdown().await.unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "greeting");
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    let mut late = String::new();
    server.read_to_string(&mut late).await.unwrap();
    assert_eq!(late, "late");
}

#[tokio::test]
async fn many_bytes_arrive_in_order() {
    const N: usize = 8 << 20;
    let sandbox = Sandbox::start().await;
    let (listener, port) = listener("127.0.0.1:0").await;
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = accept(&listener).await.into_split();
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    });
    let (mut read, mut write) = tokio::io::split(sandbox.guest.dial(port).await.unwrap());
    let bytes: Vec<u8> = (0..N).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.unwrap();
    assert!(back == bytes);
    sending.await.unwrap();
    assert_eq!(echo.await.unwrap(), N as u64);
}

#[tokio::test]
async fn dropping_a_connection_closes_it() {
    let sandbox = Sandbox::start().await;
    let (listener, port) = listener("127.0.0.1:0").await;
    let client = sandbox.guest.dial(port).await.unwrap();
    let mut server = accept(&listener).await;
    drop(client);
    let mut buffer = [0; 8];
    assert_eq!(timeout(PATIENCE, server.read(&mut buffer)).await.unwrap().unwrap_or(0), 0);

    // The port's end is seen as such, whether it closes or breaks.
    let mut client = sandbox.guest.dial(port).await.unwrap();
    drop(accept(&listener).await);
    assert_eq!(timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_port_without_a_listener_is_refused() {
    let sandbox = Sandbox::start().await;
    let (listener, port) = listener("127.0.0.1:0").await;
    drop(listener);
    let dialed = sandbox.guest.dial(port).await.map(|_| "connected");
    refused(dialed, Reason::ConnectionRefused, "nobody listens");
    let error = sandbox.guest.dial(0).await.map(|_| "connected").unwrap_err();
    assert_eq!(error.kind, drivers::guest::GuestErrorKind::Protocol);
}

/// Some servers listen on `localhost` and get its IPv6 address alone.
#[tokio::test]
async fn a_port_on_the_other_loopback_is_found() {
    let sandbox = Sandbox::start().await;
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: this host has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mut client = sandbox.guest.dial(port).await.unwrap();
    accept(&listener).await.write_all(b"hello").await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
}
