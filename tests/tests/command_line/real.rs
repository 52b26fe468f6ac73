//! The program against a real server process whose sandboxes are really isolated: what depends on a
//! real shell, on real programs, and on files of a size.

use std::{future::Future, panic::AssertUnwindSafe, path::Path};

use futures_util::FutureExt;
use serde_json::{Value, json};
use tests::serving::Installation;

use crate::person::Person;

/// Runs a story with a server of its own; no sandbox of it is left, whatever happens.
fn on_a_server<F: Future<Output = ()>>(story: impl FnOnce(Person) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::new(&tests::program::folder(), folder.path(), Vec::new());
        let made = installation.bootstrap("acme").await.unwrap();
        let mut server = installation.start().unwrap();
        let url = format!("http://{}", server.address().await.unwrap());
        let person = Person::new(&url, made["apiKey"].as_str().unwrap());
        let told = AssertUnwindSafe(story(person.clone())).catch_unwind().await;
        let left = person.gets(&["sandbox", "list", "--json"]).await;
        for line in left.lines() {
            let sandbox: Value = serde_json::from_str(line).unwrap();
            person.gets(&["sandbox", "kill", sandbox["id"].as_str().unwrap()]).await;
        }
        server.stop().await.unwrap();
        if let Err(panic) = told {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Bytes of every value, never the same twice in a row of parts.
fn content(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap()).collect()
}

#[test]
fn a_program_in_python() {
    on_a_server(|person| async move {
        let python = ["run", "--template", "python", "--", "python3", "-c"];
        let said = person.says(&[&python[..], &["print(6*7)"]].concat()).await;
        assert_eq!((said.code, said.text().as_str(), said.stderr.as_str()), (0, "42\n", ""));

        // Arguments get there as they are, however a shell would read them.
        let hostile = ["", "a  b", "it's", "\"", "$HOME", "`id`", "two\nlines", "*", "-n", "é\\"];
        let program = "import json, sys; print(json.dumps(sys.argv[1:])); \
                       print('bad', file=sys.stderr); sys.exit(7)";
        let said = person.says(&[&python[..], &[program], &hostile[..]].concat()).await;
        assert_eq!((said.code, said.stderr.as_str()), (7, "bad\n"), "{said:?}");
        let arguments: Vec<String> = serde_json::from_str(&said.text()).unwrap();
        assert_eq!(arguments, hostile);

        // The program answers a file that is put there only after its first line was read here.
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("main.sh");
        let script = "echo $WORD; pwd; until [ -e /workspace/go ]; do sleep 0.05; done; echo on";
        std::fs::write(&main, script).unwrap();
        let put = format!("{}:in/main.sh", main.display());
        let person = person.having("WORD", "secret word");
        let words = ["run", "--json", "--put", &put, "--env", "WORD", "--cwd", "in", "--keep"];
        let mut running = person.starts(&[&words[..], &["--", "sh", "main.sh"]].concat());
        let made: Value = serde_json::from_str(&running.line().await).unwrap();
        let id = made["sandbox"]["id"].as_str().unwrap();
        let mut printed = String::new();
        while !printed.contains("/workspace/in\n") {
            let event: Value = serde_json::from_str(&running.line().await).unwrap();
            printed.push_str(event["data"].as_str().unwrap());
        }
        assert_eq!(printed, "secret word\n/workspace/in\n");
        let go = folder.path().join("go");
        std::fs::write(&go, "").unwrap();
        person.gets(&["files", "put", id, go.to_str().unwrap()]).await;
        let said = running.ends().await;
        assert!(said.code == 0 && said.text().contains(r#""data":"on\n""#), "{said:?}");
    });
}

#[test]
fn files_of_a_size() {
    on_a_server(|person| async move {
        let made = person.gets_json(&["sandbox", "create", "--json"]).await;
        let sandbox = made["id"].as_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let back = folder.path().join("back");
        let there = |n: usize| folder.path().join(format!("{n} bytes; it's \"large\"\n"));
        // Around what goes in one request, and several parts with a short one at the end.
        for n in [0, 262_144, 262_145, 1_500_001] {
            let (local, content) = (there(n), content(n));
            std::fs::write(&local, &content).unwrap();
            let name = local.file_name().unwrap().to_str().unwrap();
            let words = ["files", "put", "--json", sandbox, local.to_str().unwrap()];
            let put = person.gets_json(&words).await;
            assert_eq!((&put["sizeBytes"], &put["type"]), (&json!(n), &json!("file")));
            person.gets(&["files", "get", sandbox, name, back.to_str().unwrap()]).await;
            assert!(std::fs::read(&back).unwrap() == content, "{n} bytes differ");
        }
        let listed = person.gets(&["files", "ls", "--json", sandbox]).await;
        assert_eq!(listed.lines().count(), 4, "nothing else is there: {listed}");

        refuses(&person, sandbox, &there(1_500_001)).await;
        let words = ["files", "put", "--parents", sandbox, "-", "from/input"];
        let said = person.pipes(&words, &there(1_500_001)).await;
        assert_eq!(
            (said.code, said.text().as_str()),
            (0, "put /workspace/from/input\n"),
            "{said:?}"
        );
        let printed = person.says(&["files", "cat", sandbox, "from/input"]).await;
        assert!(printed.stdout == content(1_500_001), "the bytes differ");
        let listed = person.gets(&["files", "ls", "--json", sandbox]).await;
        assert_eq!(listed.lines().count(), 5, "nothing else is there: {listed}");
    });
}

/// A large file that cannot go where it shall leaves nothing behind.
async fn refuses(person: &Person, sandbox: &str, local: &Path) {
    let local = local.to_str().unwrap();
    let put = |remote| ["files", "put", sandbox, local, remote];
    person.says(&put("no/folder")).await.ends(1, "_not_found");
    person.says(&put("../outside")).await.ends(1, "path_outside_workspace");
    person.says(&put(".")).await.ends(2, "a folder is there");
    let name = local.rsplit('/').next().unwrap();
    let words = ["files", "put", "--no-overwrite", sandbox, local, name];
    person.says(&words).await.ends(2, "there is something already");
}
