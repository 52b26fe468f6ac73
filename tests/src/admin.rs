//! An operator in a story: an admin key, and what is done with one, in the words of the stories.

use std::{ops::Deref, sync::Arc};

use api::app::admin::keys;
use domain::admin::Role;
use serde_json::{Value, json};

use crate::{Answer, client::Key, team::text, world::Common};

/// An admin key of the role owner.
#[derive(Debug)]
pub struct Admin {
    world: Arc<Common>,
    key: Key,
}

impl Deref for Admin {
    type Target = Key;
    fn deref(&self) -> &Key {
        &self.key
    }
}

impl Admin {
    /// As `crownest bootstrap --admin` makes it.
    pub(crate) async fn new(world: Arc<Common>) -> Self {
        let made = keys::bootstrap(&world.db, "owner", world.clock.now()).await.unwrap();
        assert_eq!(made.0.role, Role::Owner);
        let key = key(&world, made.0.id.to_string(), made.1.expose().to_owned());
        Self { world, key }
    }

    /// A further admin key of a role.
    pub async fn operator(&self, role: &str) -> Key {
        let body = json!({ "name": format!("the {role}"), "role": role });
        let made = self.post("/admin/v1/admin-keys", body).await.is(201);
        key(&self.world, text(&made["adminKey"]["id"]), text(&made["secret"]))
    }

    /// A new member's id.
    pub async fn member(&self, organization: &str, email: &str) -> String {
        let path = format!("/admin/v1/organizations/{organization}/members");
        let made = self.post(&path, json!({ "email": email, "role": "member" })).await.is(201);
        text(&made["member"]["id"])
    }

    /// The id of a new key of an organization, and the key.
    pub async fn api_key(&self, organization: &str, mut body: Value) -> (String, Key) {
        body["name"] = json!("story");
        let path = format!("/admin/v1/organizations/{organization}/api-keys");
        self.key_of(self.post(&path, body).await)
    }

    /// The id of the key that takes another one's place, and the key.
    pub async fn rotates(&self, organization: &str, key: &str, overlap_ms: u64) -> (String, Key) {
        let path = format!("/admin/v1/organizations/{organization}/api-keys/{key}/rotate");
        self.key_of(self.post(&path, json!({ "overlapMs": overlap_ms })).await)
    }

    fn key_of(&self, answer: Answer) -> (String, Key) {
        let made = answer.is(201);
        let id = text(&made["apiKey"]["id"]);
        (id.clone(), key(&self.world, id, text(&made["secret"])))
    }

    /// A new organization's id.
    pub async fn organization(&self, name: &str) -> String {
        let made = self.post("/admin/v1/organizations", json!({ "name": name })).await.is(201);
        text(&made["organization"]["id"])
    }
}

fn key(world: &Common, id: String, secret: String) -> Key {
    Key::new(world.http.clone(), world.address.clone(), id, secret)
}
