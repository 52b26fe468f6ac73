//! Images of machines, as an operator imports them: what becomes of them, twice, on a second host, and
//! when the import is cut off.

use std::{fs, path::Path, sync::Arc};

use api::{
    app::App,
    cli::{
        self, Cli, Command, Ending, Failure,
        operator::template::{self, Command as Template},
    },
    clock::ManualClock,
    config::Config,
};
use clap::Parser;
use drivers::cloud_hypervisor::build::{Folder, Found};
use store::{PageRequest, audit::Chain, templates::Published};
use tests::{Database, Value, World, cut::cut, json, stories};

stories![
    an_image_becomes_the_version_that_new_sandboxes_are_made_from,
    an_image_that_was_imported_changes_nothing_again,
    a_second_host_gets_the_version_of_the_first,
    an_import_that_is_cut_off_publishes_nothing_that_is_not_there,
    what_makes_no_sense_of_an_image_is_refused_by_name,
    a_list_tells_what_this_host_has,
];

/// A host with a folder of its own, on the world's database.
struct Host {
    app: Arc<App>,
    place: tempfile::TempDir,
}

impl Host {
    fn new(world: &World) -> Self {
        let place = tempfile::tempdir().unwrap();
        let images = Some(place.path().join("images"));
        let config = Config { machine_images: images, ..Config::default() };
        let clock = Arc::new(ManualClock::at(world.now()));
        Self { app: cli::on_no_host(config, world.db().clone(), clock), place }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.place.path().join("images"))
    }

    /// Writes an image of this content, and returns its path.
    fn image(&self, content: &str) -> String {
        let path = self.place.path().join(content);
        fs::write(&path, format!("hsqs {content}")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs `crownest template` with these arguments: how it ended, and what it said.
    async fn says(&self, words: &[&str]) -> (Result<Ending, Failure>, String) {
        let line = ["crownest", "template"].into_iter().chain(words.iter().copied());
        let Command::Template(Template::Images(command)) =
            Cli::try_parse_from(line).unwrap().command
        else {
            panic!("{words:?} is not about images");
        };
        let mut out = Vec::new();
        let ended = template::images(&self.app, command, &mut out).await;
        (ended, String::from_utf8(out).unwrap())
    }

    async fn imports(&self, slug: &str, file: &str) -> String {
        let (ended, said) = self.says(&["import", slug, file]).await;
        assert_eq!(ended.unwrap(), Ending::Done, "{said}");
        said
    }
}

/// A template's versions that have an image, newest first.
async fn versions(world: &World, slug: &str) -> Vec<Published> {
    let c = world.db().read();
    let template = store::templates::find(c, slug).await.unwrap().unwrap();
    let page = PageRequest { limit: 100, after: None };
    let mut found = store::templates::versions(c, template.id, page).await.unwrap().items;
    found.retain(|version| version.image.is_some());
    found
}

/// What the trail of the installation tells of versions.
async fn told(world: &World) -> Vec<Value> {
    let trail = crate::admin::trail(world, Chain::Installation).await;
    trail.into_iter().filter(|line| line["action"] == "template_version.publish").collect()
}

async fn an_image_becomes_the_version_that_new_sandboxes_are_made_from(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team("acme").await;
    let old = acme.starts(json!({ "template": "python" })).await;
    let host = Host::new(&world);
    let said = host.imports("python", &host.image("one")).await;
    let version = versions(&world, "python").await.remove(0);
    let (digest, id) = (version.image.clone().unwrap(), version.version.id);
    assert_eq!(version.version.version, format!("2031-01-20-{}", digest.short()));
    for wanted in [digest.as_str(), &id.to_string(), &version.version.version, "1 MiB"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // As the driver finds it.
    let file = host.folder().path().join(id.to_string());
    assert_eq!(fs::read_to_string(file).unwrap(), "hsqs one");
    let new = acme.starts(json!({ "template": "python" })).await;
    assert_eq!(acme.sandbox(&new).await["templateVersionId"], id.to_string());
    assert_eq!(acme.sandbox(&old).await["templateVersion"], "1.0.0");
    let told = told(&world).await;
    assert_eq!((told.len(), &told[0]["actor"]), (1, &json!("operator")));
    let details = json!({
        "template": "python", "version": version.version.version, "imageDigest": digest.as_str(),
    });
    assert_eq!(told[0]["details"], details);
    let owner = world.owner().await;
    let seen = owner.get(&format!("/admin/v1/template-versions/{id}")).await.is(200);
    assert_eq!(seen["templateVersion"]["imageDigest"], digest.as_str());
    world.close().await;
}

async fn an_image_that_was_imported_changes_nothing_again(database: Database) {
    let world = World::on(database).await;
    let host = Host::new(&world);
    let (one, two) = (host.image("one"), host.image("two"));
    host.imports("base", &one).await;
    let first = versions(&world, "base").await;
    world.moves("36h");
    let said = host.imports("base", &one).await;
    assert!(said.contains("It was published before"), "{said}");
    assert_eq!(versions(&world, "base").await, first);
    // A version of another name would be the same thing twice.
    let (ended, _) = host.says(&["import", "base", &one, "--version", "other"]).await;
    assert_eq!((ended.unwrap(), versions(&world, "base").await), (Ending::Done, first.clone()));
    // One image may be several templates', and a template has several images.
    host.imports("python", &one).await;
    host.imports("base", &two).await;
    assert_eq!(versions(&world, "python").await[0].image, first[0].image);
    assert_eq!(versions(&world, "base").await.len(), 2);
    assert_eq!(told(&world).await.len(), 3);
    // What was found to be bad does not come back.
    let tx = world.db().begin().await.unwrap();
    let id = first[0].version.id;
    store::templates::deprecate(&tx, id, world.now(), "a hole").await.unwrap();
    tx.commit().await.unwrap();
    let said = host.imports("base", &one).await;
    assert!(said.contains("It is deprecated") && said.contains("a hole"), "{said}");
    let latest = store::templates::latest(world.db().read(), "base").await.unwrap();
    assert_ne!(latest.unwrap().id, id);
    world.close().await;
}

async fn a_second_host_gets_the_version_of_the_first(database: Database) {
    let world = World::on(database).await;
    let (first, second) = (Host::new(&world), Host::new(&world));
    first.imports("node", &first.image("one")).await;
    let version = versions(&world, "node").await.remove(0);
    let (id, digest) = (version.version.id, version.image.clone().unwrap());
    assert!(!second.folder().is_linked(id, &digest));
    second.imports("node", &second.image("one")).await;
    assert!(second.folder().is_linked(id, &digest));
    // Two that import at the same instant publish one version.
    let (a, b) = (first.image("two"), second.image("two"));
    tokio::join!(first.imports("node", &a), second.imports("node", &b));
    let found = versions(&world, "node").await;
    assert_eq!(found.len(), 2);
    for version in &found {
        let (id, digest) = (version.version.id, version.image.as_ref().unwrap());
        for host in [&first, &second] {
            assert!(host.folder().is_linked(id, digest), "{id}");
        }
    }
    world.close().await;
}

async fn an_import_that_is_cut_off_publishes_nothing_that_is_not_there(database: Database) {
    // How often an import waits depends on how quick threads are, so one that ends early ends nothing.
    const LEAST: usize = 30;
    const MOST: usize = 300;
    let world = World::on(database).await;
    let host = Host::new(&world);
    let (mut n_cuts, mut n_undone) = (0, 0);
    for n in 1..MOST {
        let file = host.image(&format!("image-{n}"));
        let is_done = cut(n, host.says(&["import", "base", &file])).await;
        for version in versions(&world, "base").await {
            let (id, digest) = (version.version.id, version.image.unwrap());
            assert!(host.folder().is_linked(id, &digest), "cut {n}: {id}");
            assert!(matches!(host.folder().verify(&digest), Ok(Found::There(_))), "cut {n}: {id}");
        }
        // What was cut off is done by a repeat, and what was done is not done twice.
        host.imports("base", &file).await;
        assert_eq!(versions(&world, "base").await.len(), n, "cut {n}");
        n_cuts = n;
        n_undone += usize::from(is_done.is_none());
        if is_done.is_some() && n >= LEAST {
            break;
        }
    }
    assert!(n_undone > 0 && n_cuts < MOST - 1, "{n_undone} of {n_cuts} were cut off");
    assert_eq!(told(&world).await.len(), n_cuts);
    world.close().await;
}

async fn what_makes_no_sense_of_an_image_is_refused_by_name(database: Database) {
    let world = World::on(database).await;
    let host = Host::new(&world);
    let (good, other) = (host.image("good"), host.image("other"));
    let text = host.place.path().join("text");
    fs::write(&text, "#!/bin/sh").unwrap();
    let text = text.to_str().unwrap();
    for (words, wanted) in [
        (&["import", "ruby", &good][..], "no such template"),
        (&["import", "base", text][..], "neither an EROFS nor a squashfs image"),
        (&["import", "base", &good, "--version", "a b"][..], "version must be"),
        (&["build", "base", "ruby"][..], "no such template"),
        (&["build", "base", "--version", ""][..], "version must be"),
    ] {
        match host.says(words).await.0 {
            Err(Failure::Argument(said)) => assert!(said.contains(wanted), "{words:?}: {said}"),
            ended => panic!("{words:?}: {ended:?}"),
        }
    }
    assert!(!host.folder().path().exists(), "nothing was copied");
    let (ended, _) = host.says(&["import", "base", &good, "--version", "1"]).await;
    assert_eq!(ended.unwrap(), Ending::Done);
    match host.says(&["import", "base", &other, "--version", "1"]).await.0 {
        Err(Failure::Argument(said)) => assert!(said.contains("published already"), "{said}"),
        ended => panic!("{ended:?}"),
    }
    match host.says(&["import", "base", "/nowhere/image"]).await.0 {
        Err(Failure::Undone(said)) => assert!(said.to_string().contains("/nowhere/image")),
        ended => panic!("{ended:?}"),
    }
    world.close().await;
}

async fn a_list_tells_what_this_host_has(database: Database) {
    let world = World::on(database).await;
    let (host, bare) = (Host::new(&world), Host::new(&world));
    host.imports("python", &host.image("one")).await;
    let version = versions(&world, "python").await.remove(0);
    let row = async |host: &Host, words: &[&str]| {
        let (ended, said) = host.says(words).await;
        let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut rows =
            lines.filter(|row| row["templateVersionId"] == version.version.id.to_string());
        (ended.unwrap(), rows.next().unwrap())
    };
    let quick = &["list", "--json"][..];
    let careful = &["list", "--json", "--verify"][..];
    let (ended, seen) = row(&host, careful).await;
    assert_eq!((ended, &seen["here"], &seen["bytes"]), (Ending::Done, &json!("yes"), &json!(8)));
    assert_eq!(seen["imageDigest"], version.image.as_ref().unwrap().as_str());
    for (words, ending) in [(quick, Ending::Done), (careful, Ending::Wrong)] {
        let (ended, seen) = row(&bare, words).await;
        assert_eq!((ended, &seen["here"]), (ending, &json!("missing")));
    }
    let file = format!("sha256-{}", version.image.as_ref().unwrap());
    fs::write(host.folder().path().join(Path::new(&file)), "hsqs two").unwrap();
    assert_eq!(row(&host, quick).await.0, Ending::Done, "it is there");
    let (ended, seen) = row(&host, careful).await;
    assert_eq!((ended, &seen["here"]), (Ending::Wrong, &json!("changed")));
    let (_, text) = host.says(&["list"]).await;
    // One row of headings, those of every installation, and this one.
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains("unknown"), "{text}");
    world.close().await;
}
