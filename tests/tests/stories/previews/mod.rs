//! Previews: made, limited and revoked through the API; opened, abused and closed through the proxy;
//! counted by the minute.

mod api;
mod closing;
mod doors;
mod hostile;
mod minutes;
mod stalls;
mod traffic;

use tests::{
    Team, Value, World, json,
    preview::{Played, Visitor},
    team::text,
};

/// Makes a preview of a port and returns it with its token, which is empty if it has none.
async fn opens(team: &Team, sandbox: &str, body: Value) -> (Value, String) {
    let path = format!("/v1/sandboxes/{sandbox}/previews");
    let mut made = team.post(&path, body).await.is(201);
    let token = made["previewToken"].take();
    (made["preview"].take(), token.as_str().unwrap_or_default().to_owned())
}

/// A preview of a sandbox's port 8000 that opens with a token, and a visitor who has it.
struct Place {
    sandbox: String,
    id: String,
    visitor: Visitor,
    token: String,
}

impl Place {
    async fn of(team: &Team) -> Self {
        let sandbox = team.starts(json!({})).await;
        let (preview, token) =
            opens(team, &sandbox, json!({ "port": 8000, "authMode": "token" })).await;
        Self { id: text(&preview["id"]), visitor: Visitor::of(&preview), sandbox, token }
    }

    /// The field that lets in.
    fn key(&self) -> (&str, &str) {
        ("x-crownest-preview-token", &self.token)
    }

    /// Plays an app at the port.
    fn plays(
        &self,
        world: &World,
        script: impl Fn(&str) -> Vec<u8> + Clone + Send + Sync + 'static,
    ) -> Played {
        Played::new(self.listens(world), script)
    }

    /// Listens at the port, for stories that play by themselves.
    fn listens(&self, world: &World) -> drivers::simulated::Listener {
        world.driver.listen(self.sandbox.parse().unwrap(), 8000).unwrap()
    }
}
