//! Logs and the kept beginning of output: repeats, gaps, eviction.

use domain::{
    command::{Command, Inline},
    limits::MAX_INLINE_OUTPUT_BYTES,
};
use store::{Db, commands::LogChunk};

use crate::fixtures::{
    append, at, err, everyone, exited, inline, micros, on_each, out, put_command, running,
};

async fn log(db: &Db, command: &Command) -> Vec<LogChunk> {
    store::commands(everyone()).logs(db.read(), command.id, 0, 10_000).await.unwrap()
}

async fn heads(db: &Db, command: &Command) -> (Inline, Inline) {
    store::commands(everyone()).heads(db.read(), command.id).await.unwrap()
}

async fn evict(db: &Db, command: &Command, keep_bytes: u64) -> bool {
    let tx = db.begin().await.unwrap();
    let commands = store::commands(everyone());
    let dropped = commands.evict_logs(&tx, command.id, keep_bytes).await.unwrap();
    tx.commit().await.unwrap();
    dropped
}

async fn seqs(db: &Db, command: &Command) -> (u64, u64, Vec<u64>) {
    let row = store::commands(everyone()).get(db.read(), command.id).await.unwrap();
    let kept = log(db, command).await.iter().map(|chunk| chunk.seq).collect();
    (row.first_seq, row.last_seq, kept)
}

#[tokio::test]
async fn chunks_are_read_in_order_from_any_position() {
    on_each(async |db| {
        let command = running(db).await;
        let odd = LogChunk { created_at: at(4) + micros(7), ..err(2, "zwei ü\n") };
        let chunks = [out(1, "one\n"), odd, out(3, "")];
        assert!(append(db, &command, &chunks).await);
        assert!(append(db, &command, &[]).await, "nothing to append, and it is active");
        let commands = store::commands(everyone());
        assert_eq!(log(db, &command).await, chunks);
        let page = commands.logs(db.read(), command.id, 1, 1).await.unwrap();
        assert_eq!(page, chunks[1..2]);
        assert_eq!(commands.logs(db.read(), command.id, 3, 10).await.unwrap(), []);
        let row = commands.get(db.read(), command.id).await.unwrap();
        assert_eq!((row.first_seq, row.last_seq), (1, 3));
        assert_eq!((row.stdout, row.stderr), (None, None), "no output before the end");
    })
    .await;
}

#[tokio::test]
async fn repeated_chunks_are_dropped_and_not_counted() {
    on_each(async |db| {
        let command = running(db).await;
        append(db, &command, &[out(1, "aaaa"), out(2, "bbbb")]).await;
        // As after a broken connection: from the last acknowledged chunk on.
        let again = [out(2, "BBBB"), out(3, "cccc"), out(3, "CCCC")];
        assert!(append(db, &command, &again).await);
        assert!(append(db, &command, &again).await);
        let data: String = log(db, &command).await.into_iter().map(|chunk| chunk.data).collect();
        assert_eq!(data, "aaaabbbbCCCC", "the last of a batch, the first of all batches");
        // Twelve bytes are counted, so nothing has to go.
        assert!(!evict(db, &command, 12).await);
        assert!(evict(db, &command, 11).await);
        assert_eq!(seqs(db, &command).await, (2, 3, vec![2, 3]));
    })
    .await;
}

#[tokio::test]
async fn a_batch_may_be_larger_than_a_statement() {
    on_each(async |db| {
        let command = running(db).await;
        let chunks: Vec<_> = (1..=1_234).map(|seq| out(seq, "x\n")).collect();
        assert!(append(db, &command, &chunks).await);
        assert_eq!(log(db, &command).await, chunks);
        assert!(evict(db, &command, 2).await, "more than one look at the sizes");
        assert_eq!(seqs(db, &command).await, (1_234, 1_234, vec![1_234]));
        assert_eq!(heads(db, &command).await.0, inline(&"x\n".repeat(1_234)));
    })
    .await;
}

#[tokio::test]
async fn nul_is_stored_like_any_other_character() {
    on_each(async |db| {
        let command = running(db).await;
        assert!(append(db, &command, &[out(1, "a\0b")]).await);
        assert_eq!(log(db, &command).await, [out(1, "a\0b")]);
        assert_eq!(heads(db, &command).await.0, inline("a\0b"));
        // Counted as it is stored: three bytes.
        assert!(!evict(db, &command, 3).await);
        let tx = db.begin().await.unwrap();
        let commands = store::commands(everyone());
        assert!(commands.finish(&tx, command.id, &exited("\0")).await.unwrap());
        tx.commit().await.unwrap();
        let read = commands.get(db.read(), command.id).await.unwrap();
        assert_eq!(read.stdout, Some(inline("\0")));
    })
    .await;
}

#[tokio::test]
async fn the_oldest_chunks_give_way_and_the_output_keeps_them() {
    on_each(async |db| {
        let command = running(db).await;
        append(db, &command, &[out(1, "1111"), err(2, "2222"), out(3, "3333")]).await;
        assert!(evict(db, &command, 7).await);
        assert_eq!(seqs(db, &command).await, (3, 3, vec![3]));
        assert_eq!(heads(db, &command).await, (inline("11113333"), inline("2222")));
        append(db, &command, &[err(4, "4444"), out(5, "5555")]).await;
        assert_eq!(heads(db, &command).await, (inline("111133335555"), inline("22224444")));
        assert!(evict(db, &command, 4).await);
        assert_eq!(seqs(db, &command).await, (5, 5, vec![5]));
        assert!(evict(db, &command, 0).await);
        assert_eq!(seqs(db, &command).await, (6, 5, vec![]));
        assert!(!evict(db, &command, 0).await);
        assert_eq!(heads(db, &command).await, (inline("111133335555"), inline("22224444")));
        let tx = db.begin().await.unwrap();
        let killed =
            store::commands(everyone()).kill_of_sandbox(&tx, command.sandbox_id, at(9)).await;
        assert_eq!(killed.unwrap()[0].stdout, Some(inline("111133335555")));
    })
    .await;
}

#[tokio::test]
async fn saved_output_is_carried_on_from_where_it_was_saved() {
    on_each(async |db| {
        let command = running(db).await;
        append(db, &command, &[out(1, "one ")]).await;
        let tx = db.begin().await.unwrap();
        let commands = store::commands(everyone());
        commands.append_logs(&tx, command.id, &[out(2, "two ")]).await.unwrap();
        let (stdout, stderr) = (inline("one two "), inline(""));
        commands.save_heads(&tx, command.id, &stdout, &stderr).await.unwrap();
        tx.commit().await.unwrap();
        append(db, &command, &[err(3, "oops"), out(4, "three")]).await;
        assert_eq!(heads(db, &command).await, (inline("one two three"), inline("oops")));
        assert!(evict(db, &command, 5).await);
        assert_eq!(heads(db, &command).await, (inline("one two three"), inline("oops")));
        let row = commands.get(db.read(), command.id).await.unwrap();
        assert_eq!(row.stdout, None, "still no output before the end");
    })
    .await;
}

#[tokio::test]
async fn output_stops_at_its_limit_however_it_is_put_together() {
    on_each(async |db| {
        let command = running(db).await;
        let piece = "x".repeat(MAX_INLINE_OUTPUT_BYTES / 4 + 1);
        for seq in 1..=3 {
            append(db, &command, &[out(seq, &piece)]).await;
        }
        assert!(!heads(db, &command).await.0.truncated);
        assert!(evict(db, &command, 0).await);
        append(db, &command, &[out(4, &piece), err(5, "e"), out(6, &piece)]).await;
        let full = Inline { text: "x".repeat(MAX_INLINE_OUTPUT_BYTES), truncated: true };
        assert_eq!(heads(db, &command).await, (full.clone(), inline("e")));
        assert!(evict(db, &command, 0).await);
        assert_eq!(heads(db, &command).await, (full, inline("e")));
    })
    .await;
}

#[tokio::test]
async fn old_logs_are_purged_and_the_output_stays() {
    on_each(async |db| {
        let command = running(db).await;
        append(db, &command, &[out(1, "one"), out(2, "two")]).await;
        let mut active = command.clone();
        active.id = domain::id::CommandId::generate(at(2));
        put_command(db, &active).await;
        append(db, &active, &[out(1, "x")]).await;
        let commands = store::commands(everyone());
        let tx = db.begin().await.unwrap();
        assert!(commands.finish(&tx, command.id, &exited("onetwo")).await.unwrap()); // at 9 s
        tx.commit().await.unwrap();
        let purge = async |before| {
            store::commands::purge_logs(db.write(), &[(command.org_id, before)], 10).await.unwrap()
        };
        assert_eq!(purge(at(9)).await, 0, "not before");
        assert_eq!(purge(at(10)).await, 1);
        assert_eq!(purge(at(10)).await, 0, "once");
        assert_eq!(seqs(db, &command).await, (3, 2, vec![]));
        let read = commands.get(db.read(), command.id).await.unwrap();
        assert_eq!(read.stdout, Some(inline("onetwo")));
        assert_eq!(log(db, &active).await.len(), 1, "what is active keeps its log");
    })
    .await;
}
