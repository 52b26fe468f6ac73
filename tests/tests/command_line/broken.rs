//! A network that breaks: output is taken up again where it was cut, and what may be done twice is
//! asked again with nothing done twice.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tests::{Database, World, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::person::Person;

tests::stories![output_survives_a_connection_that_breaks, a_cut_create_makes_one_sandbox];

/// A way to the server that can be cut.
struct Way {
    url: String,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    listening: AbortHandle,
}

/// What becomes of a new connection.
type Fate = Arc<dyn Fn(usize) -> Passage + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    /// Bytes go through until somebody cuts it.
    Open,
    /// The request gets there; its answer does not come back.
    OneWay,
}

impl Way {
    async fn to(server: &str, fate: Fate) -> Self {
        let server: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A proxy in front usually adds a path; this one only has to be kept.
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&connections);
        let listening = tokio::spawn(async move {
            for n in 0.. {
                let (from, _) = listener.accept().await.unwrap();
                let passing = tokio::spawn(pass(from, server, fate(n)));
                kept.lock().unwrap().push(passing.abort_handle());
            }
        });
        Self { url, connections, listening: listening.abort_handle() }
    }

    /// Cuts every connection; new ones are let through. Returns how many there were.
    fn cut(&self) -> usize {
        let mut connections = self.connections.lock().unwrap();
        connections.iter().for_each(AbortHandle::abort);
        std::mem::take(&mut *connections).len()
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn pass(mut from: TcpStream, server: SocketAddr, passage: Passage) {
    let mut to = TcpStream::connect(server).await.unwrap();
    match passage {
        // One end going away is what this is about.
        Passage::Open => drop(copy_bidirectional(&mut from, &mut to).await),
        Passage::OneWay => {
            let (mut reads, _writes) = from.split();
            let (mut answers, mut asks) = to.split();
            let mut first = [0; 1];
            tokio::select! {
                _ = tokio::io::copy(&mut reads, &mut asks) => {}
                // The server has done it and answers; nobody will hear of it.
                _ = tokio::io::AsyncReadExt::read(&mut answers, &mut first) => {}
            }
        }
    }
}

async fn output_survives_a_connection_that_breaks(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let way = Way::to(&team.base(), Arc::new(|_| Passage::Open)).await;
    let sandbox = team.starts(json!({})).await;
    let line = "seq 1 3 && sleep 10 && seq 4 6 && cat missing && sleep 10";
    let id = team.launches(&sandbox, line).await;
    let mut logs = Person::new(&way.url, &team.secret).starts(&["command", "logs", &id]);
    for n in 1..=3 {
        assert_eq!(logs.line().await, n.to_string());
    }
    assert!(way.cut() > 0);
    world.advance("10s").await;
    let said = logs.ends().await;
    assert_eq!((said.code, said.text().as_str()), (0, "4\n5\n6\n"), "{said:?}");
    assert_eq!(said.stderr.matches("cat: missing").count(), 1, "{said:?}");
    world.close().await;
}

/// The first answer is lost on its way, the request comes again with the same key.
async fn a_cut_create_makes_one_sandbox(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let fate: Fate = Arc::new(|n| if n == 0 { Passage::OneWay } else { Passage::Open });
    let way = Way::to(&team.base(), fate).await;
    let person = Person::new(&way.url, &team.secret);
    let made = person.gets_json(&["sandbox", "create", "--json"]).await;
    assert_eq!(team.lists().await, [tests::team::text(&made["id"])]);
    world.close().await;
}
