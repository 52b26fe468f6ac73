//! The REST API of the stand-in: finds the call, holds both sides of it against the schema, and has the
//! machine do it.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use crate::{
    machine::{Machine, Refusal},
    schema,
};

pub async fn serve(listener: UnixListener, machine: Arc<Machine>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let machine = Arc::clone(&machine);
        let service = service_fn(move |request| {
            let machine = Arc::clone(&machine);
            async move { Ok::<_, Infallible>(answer(&machine, request).await) }
        });
        tokio::spawn(async move {
            // A client that goes away early is no trouble.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(machine: &Arc<Machine>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match call(machine, request).await {
        Ok(Some(value)) => respond(StatusCode::OK, value.to_string()),
        Ok(None) => respond(StatusCode::NO_CONTENT, String::new()),
        Err(Refusal(status, text)) => respond(status, json!(["Error from API", text]).to_string()),
    }
}

async fn call(
    machine: &Arc<Machine>,
    request: Request<Incoming>,
) -> Result<Option<Value>, Refusal> {
    let wrong = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
    let path = request.uri().path().to_owned();
    let name = path.strip_prefix("/api/v1/").unwrap_or_default();
    let method = request.method().as_str();
    let found = schema::CALLS.iter().find(|(m, n, ..)| *m == method && *n == name);
    let Some((_, name, input, output)) = found else {
        return Err(Refusal(StatusCode::NOT_FOUND, format!("{method} {path} is no call")));
    };
    let body = request.into_body().collect().await.map_err(|error| wrong(error.to_string()))?;
    let body = body.to_bytes();
    let told = match input {
        Some(object) => {
            let value = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
            schema::check(object, &value).map_err(wrong)?;
            value
        }
        None if body.is_empty() => Value::Null,
        None => return Err(wrong(format!("{name} takes nothing"))),
    };
    // As the VMM, it does what it was told even if nobody waits for that any more.
    let calling = Arc::clone(machine);
    let done = tokio::spawn(async move { calling.call(name, told).await });
    let answer = done.await.expect("the call comes to an end")?;
    match (output, &answer) {
        (Some(object), Some(value)) => schema::check(object, value).expect("the answer is right"),
        (None, None) => {}
        _ => panic!("{name} answers {answer:?}"),
    }
    Ok(answer)
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
