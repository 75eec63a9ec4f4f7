//! Databases in real workers, at both levels: what statements do, what they may not do, and what is left of them.

#![cfg_attr(
    target_os = "linux",
    expect(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    stockade_jail::run_if_launcher(stockade_sqlite::worker_main, None);
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Some count processes and descriptors.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests::trials()).exit_code()
}

#[cfg(target_os = "linux")]
mod tests {
    use std::future::Future;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use libtest_mimic::Trial;
    use stockade_jail::{CgroupUse, Level};
    use stockade_sqlite::{
        Access, Database, DatabaseOptions, OpenError, Rows, SqlError, Statement, Value,
    };

    pub(super) fn trials() -> Vec<Trial> {
        let mut trials = Vec::new();
        for level in [Level::Process, Level::Container] {
            let mut add = |name: &str, test: fn(Level)| {
                trials.push(Trial::test(format!("{name}@{level:?}"), move || {
                    test(level);
                    Ok(())
                }));
            };
            add("values_come_back_as_they_were", values);
            add("statements_of_a_call_are_one", atomic);
            add("transactions", transactions);
            add("transactions_end_at_their_deadline", deadline);
            add(
                "transactions_dropped_at_their_deadline",
                dropped_at_its_deadline,
            );
            add("transactions_that_an_error_ended_are_over", rolled_back);
            add(
                "transactions_that_nobody_waits_for_are_rolled_back",
                cancelled,
            );
            add("statements_end_at_their_deadline", endless);
            add("statements_may_not", forbidden);
            add("results_are_bounded", bombs);
            add("storage_is_bounded", storage);
            add("memory_is_bounded", memory);
            add("callers_that_do_not_wait", dropped);
            add("files_survive_a_kill", killed);
            add("files_are_those_of_sqlite", interchange);
            add("workers_end_when_idle", idle);
            add("waiting_is_bounded", queue);
            add("readers_change_nothing", read_only);
            add("broken_files", broken);
        }
        trials
    }

    fn options(path: &Path, level: Level) -> DatabaseOptions {
        DatabaseOptions {
            path: path.to_owned(),
            access: Access::Write,
            storage: 8 << 20,
            memory: 16 << 20,
            statement: Duration::from_secs(10),
            transaction: Duration::from_secs(30),
            most_result: 1 << 20,
            queue: 64,
            queue_time: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            level,
            cgroup: CgroupUse::Auto,
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(future)
    }

    fn with(
        level: Level,
        change: impl FnOnce(&mut DatabaseOptions),
        test: impl AsyncFnOnce(Database),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(&folder.path().join("a.db"), level);
        change(&mut options);
        block_on(async { test(Database::open(options).unwrap()).await });
    }

    fn statement(sql: &str, parameters: impl IntoIterator<Item = Value>) -> Statement {
        Statement {
            sql: sql.to_owned(),
            parameters: parameters.into_iter().collect(),
        }
    }

    async fn run(database: &Database, sql: &str) -> Result<Rows, SqlError> {
        let mut rows = database.run(vec![statement(sql, [])]).await?;
        assert_eq!(rows.len(), 1);
        Ok(rows.remove(0))
    }

    async fn number(database: &Database, sql: &str) -> i64 {
        let rows = run(database, sql).await.unwrap();
        let [[Value::Integer(number)]] =
            rows.rows.iter().map(Vec::as_slice).collect::<Vec<_>>()[..]
        else {
            panic!("{rows:?}");
        };
        *number
    }

    fn code(error: &SqlError) -> &str {
        match error {
            SqlError::Sqlite { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    fn values(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                let values = [
                    Value::Null,
                    Value::Integer(i64::MIN),
                    Value::Integer(i64::MAX),
                    Value::Real(-0.5),
                    Value::Text("é\u{0}\u{1F600}".to_owned()),
                    Value::Text(String::new()),
                    Value::Blob(vec![0, 255, 0]),
                    Value::Blob(Vec::new()),
                ];
                let create = statement("create table t (id integer primary key, v)", []);
                let mut statements = vec![create];
                for value in &values {
                    statements.push(statement("insert into t (v) values (?1)", [value.clone()]));
                }
                let done = database.run(statements).await.unwrap();
                assert_eq!(done.last().unwrap().changes, 1);
                assert_eq!(done.last().unwrap().last_row_id, values.len() as i64);
                assert!(done.last().unwrap().steps > 0);
                let rows = run(&database, "select v, typeof(v) from t order by id")
                    .await
                    .unwrap();
                let names: Vec<_> = rows.columns.iter().map(|column| &*column.name).collect();
                assert_eq!(names, ["v", "typeof(v)"]);
                let found: Vec<_> = rows.rows.iter().map(|row| row[0].clone()).collect();
                assert_eq!(found, values);
                // Functions that ask the system for something.
                number(&database, "select random() is not null").await;
                number(&database, "select length(datetime('now', 'localtime'))").await;
                number(&database, "select unixepoch('now') > 1700000000").await;
                run(&database, "create virtual table words using fts5(word)")
                    .await
                    .unwrap();
                run(&database, "insert into words values ('stockade')")
                    .await
                    .unwrap();
                let found = number(
                    &database,
                    "select count(*) from words where words match 'stock*'",
                );
                assert_eq!(found.await, 1);
            },
        );
    }

    fn atomic(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                run(&database, "create table t (a unique)").await.unwrap();
                let insert = |value| statement("insert into t values (?)", [Value::Integer(value)]);
                let error = database
                    .run(vec![insert(1), insert(2), insert(1)])
                    .await
                    .unwrap_err();
                assert_eq!(code(&error), "SQLITE_CONSTRAINT_UNIQUE");
                assert!(matches!(error, SqlError::Sqlite { statement: 2, .. }));
                assert_eq!(number(&database, "select count(*) from t").await, 0);
                let sql = "insert into t values (1); insert into t values (2);\n-- and\n";
                let count = database.execute(sql.to_owned()).await.unwrap();
                assert_eq!(count.rows, [[Value::Integer(2)]]);
                let sql = "insert into t values (3); insert into t values (2)";
                database.execute(sql.to_owned()).await.unwrap_err();
                assert_eq!(number(&database, "select count(*) from t").await, 2);
                for (sql, expected) in [
                    ("select", "SQLITE_ERROR"),
                    ("select 1; select 2", "SQLITE_MISUSE"),
                    ("select ?", "SQLITE_RANGE"),
                    ("insert into t values (1)", "SQLITE_CONSTRAINT_UNIQUE"),
                ] {
                    assert_eq!(
                        code(&run(&database, sql).await.unwrap_err()),
                        expected,
                        "{sql}"
                    );
                }
            },
        );
    }

    fn transactions(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                run(&database, "create table t (a unique)").await.unwrap();
                let insert = |value| {
                    vec![statement(
                        "insert into t values (?)",
                        [Value::Integer(value)],
                    )]
                };
                let transaction = database.begin().await.unwrap();
                transaction.run(insert(1)).await.unwrap();
                // A statement that fails leaves the transaction as it was.
                let error = transaction
                    .run([insert(2), insert(1)].concat())
                    .await
                    .unwrap_err();
                assert_eq!(code(&error), "SQLITE_CONSTRAINT_UNIQUE");
                transaction.run(insert(3)).await.unwrap();
                let other = database.clone();
                let waits =
                    tokio::spawn(async move { number(&other, "select sum(a) from t").await });
                transaction.commit().await.unwrap();
                assert_eq!(waits.await.unwrap(), 4);
                let transaction = database.begin().await.unwrap();
                transaction.run(insert(5)).await.unwrap();
                transaction.roll_back().await.unwrap();
                let transaction = database.begin().await.unwrap();
                transaction.run(insert(5)).await.unwrap();
                drop(transaction);
                assert_eq!(number(&database, "select sum(a) from t").await, 4);
            },
        );
    }

    fn deadline(level: Level) {
        let change = |options: &mut DatabaseOptions| options.transaction = Duration::from_secs(1);
        with(level, change, async |database| {
            run(&database, "create table t (a)").await.unwrap();
            let transaction = database.begin().await.unwrap();
            let insert = || vec![statement("insert into t values (1)", [])];
            transaction.run(insert()).await.unwrap();
            // Waits until the transaction has ended.
            assert_eq!(number(&database, "select count(*) from t").await, 0);
            let error = transaction.run(insert()).await.unwrap_err();
            assert!(
                matches!(&error, SqlError::Ended(why) if why.contains("longer")),
                "{error:?}"
            );
            let error = transaction.commit().await.unwrap_err();
            assert!(
                matches!(&error, SqlError::Ended(why) if why.contains("longer")),
                "{error:?}"
            );
        });
    }

    fn rolled_back(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                run(&database, "create table t (a unique)").await.unwrap();
                run(&database, "insert into t values (1)").await.unwrap();
                let sql = |sql: &str| vec![statement(sql, [])];
                let transaction = database.begin().await.unwrap();
                transaction
                    .run(sql("insert into t values (2)"))
                    .await
                    .unwrap();
                let rolls_back = sql("insert or rollback into t values (1)");
                let error = transaction.run(rolls_back).await.unwrap_err();
                assert!(error.to_string().contains("rolled back"), "{error}");
                // What comes after it must not be done on its own.
                for _ in 0..2 {
                    let late = transaction.run(sql("insert into t values (3)")).await;
                    assert_eq!(code(&late.unwrap_err()), "SQLITE_ABORT");
                }
                let late = transaction.execute("insert into t values (3)".to_owned());
                assert_eq!(code(&late.await.unwrap_err()), "SQLITE_ABORT");
                transaction.commit().await.unwrap_err();
                assert_eq!(number(&database, "select sum(a) from t").await, 1);
            },
        );
    }

    fn cancelled(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                run(&database, "create table t (a)").await.unwrap();
                for millis in 0..20 {
                    let begin = database.begin();
                    let limit = Duration::from_micros(millis * 50);
                    drop(tokio::time::timeout(limit, begin).await);
                    run(&database, "insert into t values (1)").await.unwrap();
                    database.begin().await.unwrap().commit().await.unwrap();
                }
                // Calls of a transaction that wait behind a long one, and are given up.
                let transaction = database.begin().await.unwrap();
                let long = transaction.run(vec![statement(LONG, [])]);
                let mut waiting = Vec::new();
                for _ in 0..100 {
                    waiting.push(transaction.run(vec![statement("insert into t values (1)", [])]));
                }
                drop(waiting);
                long.await.unwrap();
                transaction.commit().await.unwrap();
                // All that was acknowledged survives the worker.
                let [worker] = workers()[..] else {
                    panic!("{:?}", workers());
                };
                let pid = rustix::process::Pid::from_raw(worker).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                until("the worker ends", || !workers().contains(&worker)).await;
                run(&database, "select 1").await.unwrap_err();
                assert_eq!(number(&database, "select count(*) from t").await, 20);
            },
        );
    }

    fn dropped_at_its_deadline(level: Level) {
        let change =
            |options: &mut DatabaseOptions| options.transaction = Duration::from_millis(20);
        with(level, change, async |database| {
            for micros in 0..60 {
                let transaction = database.begin().await.unwrap();
                tokio::time::sleep(Duration::from_micros(19_000 + micros * 50)).await;
                drop(transaction);
                assert_eq!(number(&database, "select 7").await, 7);
            }
        });
    }

    /// Takes a while.
    const LONG: &str = "with recursive r(n) as (select 1 union all select n + 1 from r limit 1000000) \
         select count(*) from r";

    const ENDLESS: &str =
        "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r";

    fn endless(level: Level) {
        let change = |options: &mut DatabaseOptions| options.statement = Duration::from_secs(1);
        with(level, change, async |database| {
            run(&database, "create table t (a)").await.unwrap();
            let insert = statement("insert into t values (1)", []);
            let statements = vec![insert, statement(ENDLESS, [])];
            let error = database.run(statements).await.unwrap_err();
            assert!(matches!(error, SqlError::TimedOut { .. }), "{error:?}");
            assert_eq!(number(&database, "select count(*) from t").await, 0);
            let error = database
                .execute(format!("select 1; {ENDLESS}"))
                .await
                .unwrap_err();
            assert!(matches!(error, SqlError::TimedOut { .. }), "{error:?}");
            // In a transaction too, which goes on.
            let transaction = database.begin().await.unwrap();
            let error = transaction
                .run(vec![statement(ENDLESS, [])])
                .await
                .unwrap_err();
            assert!(matches!(error, SqlError::TimedOut { .. }), "{error:?}");
            transaction
                .run(vec![statement("insert into t values (1)", [])])
                .await
                .unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(number(&database, "select count(*) from t").await, 1);
        });
    }

    fn forbidden(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                run(&database, "create table t (a)").await.unwrap();
                for sql in [
                    "attach '/etc/passwd' as p",
                    "attach ':memory:' as p",
                    "vacuum",
                    "vacuum into '/tmp/x'",
                    "begin",
                    "commit",
                    "rollback",
                    "savepoint s",
                    "pragma journal_mode = delete",
                    "pragma locking_mode = normal",
                    "pragma max_page_count = 1000000",
                    "pragma hard_heap_limit = 1",
                    "pragma temp_store_directory = '/tmp'",
                    "pragma writable_schema = on",
                    "pragma synchronous = off",
                    "pragma mmap_size = 1000000",
                    "pragma query_only = off",
                    "pragma trusted_schema = on",
                    "pragma wal_checkpoint(truncate)",
                    "select load_extension('x')",
                    "select fts3_tokenizer('x')",
                    "create virtual table d using dbstat",
                    "create virtual table d using fts3(a)",
                    "select * from pragma_database_list",
                    "update sqlite_schema set sql = 'x'",
                    "select * from dbstat",
                ] {
                    let error = run(&database, sql).await.unwrap_err();
                    let refused = ["SQLITE_AUTH", "SQLITE_ERROR"].contains(&code(&error));
                    assert!(refused, "{sql}: {error:?}");
                    let error = database.execute(sql.to_owned()).await.unwrap_err();
                    let refused = ["SQLITE_AUTH", "SQLITE_ERROR"].contains(&code(&error));
                    assert!(refused, "{sql}: {error:?}");
                }
                // Refused statements of a call leave nothing.
                let sql = "insert into t values (1); commit";
                database.execute(sql.to_owned()).await.unwrap_err();
                assert_eq!(number(&database, "select count(*) from t").await, 0);
                // The controls, which must work.
                for sql in [
                    "pragma table_info(t)",
                    "select * from pragma_table_info('t')",
                    "pragma user_version = 7",
                    "pragma foreign_keys",
                    "pragma quick_check",
                    "pragma max_page_count",
                    "select upper('x'), json('{}'), date('now')",
                    "create virtual table d using rtree(id, a, b)",
                ] {
                    run(&database, sql).await.unwrap();
                }
            },
        );
    }

    fn bombs(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                let rows = "with recursive r(n) as (select 1 union all select n + 1 from r limit 10000000)";
                let error = run(&database, &format!("{rows} select n from r"))
                    .await
                    .unwrap_err();
                assert_eq!(code(&error), "SQLITE_TOOBIG");
                let big = statement("select zeroblob(600000)", []);
                let error = database
                    .run(vec![big.clone(), big.clone()])
                    .await
                    .unwrap_err();
                assert_eq!(code(&error), "SQLITE_TOOBIG");
                assert_eq!(database.run(vec![big]).await.unwrap().len(), 1);
                for sql in [
                    "select zeroblob(3000000)",
                    "select replace(printf('%.*c', 1000000, 'x'), 'x', 'yyyyyyyyyy')",
                    "select printf('%.*c', 100000000, 'x')",
                    "select group_concat(zeroblob(1000)) from (with recursive r(n) as (select 1 union all select n + 1 from r limit 5000) select n from r)",
                ] {
                    let error = run(&database, sql).await.unwrap_err();
                    assert_eq!(code(&error), "SQLITE_TOOBIG", "{sql}");
                }
                let error = run(&database, &format!("select '{}'", "x".repeat(100_000)))
                    .await
                    .unwrap_err();
                assert!(matches!(error, SqlError::TooLarge(_)), "{error:?}");
                let many = vec![statement("select 1", []); 1_001];
                let error = database.run(many).await.unwrap_err();
                assert!(matches!(error, SqlError::TooLarge(_)), "{error:?}");
                let deep = format!("select 1{}", "+1".repeat(1000));
                run(&database, &deep).await.unwrap_err();
                let like = format!("select 'a' like '{}'", "%a".repeat(1000));
                run(&database, &like).await.unwrap_err();
                assert_eq!(number(&database, "select 1").await, 1);
            },
        );
    }

    fn storage(level: Level) {
        let change = |options: &mut DatabaseOptions| options.storage = 1 << 20;
        with(level, change, async |database| {
            run(&database, "create table t (a)").await.unwrap();
            let fill = "insert into t values (zeroblob(100000))";
            let mut error = None;
            for _ in 0..20 {
                if let Err(found) = run(&database, fill).await {
                    error = Some(found);
                    break;
                }
            }
            assert_eq!(code(&error.unwrap()), "SQLITE_FULL");
            let many = format!("{fill};").repeat(40);
            let error = database.execute(many).await.unwrap_err();
            assert_eq!(code(&error), "SQLITE_FULL");
            assert!(number(&database, "select count(*) from t").await > 5);
            run(&database, "delete from t").await.unwrap();
            run(&database, fill).await.unwrap();
        });
    }

    fn memory(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                // A sorter and a temporary table are in memory.
                let sql = "with recursive r(n) as (select 1 union all select n + 1 from r limit 400) \
                 select hex(randomblob(50000)) as a from r order by a";
                let error = run(&database, sql).await.unwrap_err();
                assert_eq!(code(&error), "SQLITE_NOMEM");
                assert_eq!(number(&database, "select 1").await, 1);
                let sql = "create temp table x as \
                 with recursive r(n) as (select 1 union all select n + 1 from r limit 400) \
                 select randomblob(100000) from r";
                let error = run(&database, sql).await.unwrap_err();
                assert!(
                    ["SQLITE_NOMEM", "SQLITE_FULL"].contains(&code(&error)),
                    "{error:?}"
                );
                assert_eq!(number(&database, "select 1").await, 1);
            },
        );
    }

    fn dropped(level: Level) {
        let change = |options: &mut DatabaseOptions| options.statement = Duration::from_millis(300);
        with(level, change, async |database| {
            run(&database, "create table t (a)").await.unwrap();
            for _ in 0..5 {
                let call = run(&database, ENDLESS);
                let _ = tokio::time::timeout(Duration::from_millis(20), call).await;
            }
            // Answers are still those of the calls that they belong to.
            assert_eq!(number(&database, "select 7").await, 7);
            let transaction = database.begin().await.unwrap();
            let call = transaction.run(vec![statement(ENDLESS, [])]);
            let _ = tokio::time::timeout(Duration::from_millis(20), call).await;
            drop(transaction);
            assert_eq!(number(&database, "select 8").await, 8);
        });
    }

    /// The processes below this one: the launcher, and workers.
    fn children() -> Vec<i32> {
        let mut found = vec![std::process::id().cast_signed()];
        let mut at = 0;
        while at < found.len() {
            let tasks = format!("/proc/{}/task", found[at]);
            for task in std::fs::read_dir(tasks).into_iter().flatten() {
                let list = std::fs::read_to_string(task.unwrap().path().join("children"));
                let list = list.unwrap_or_default();
                found.extend(
                    list.split_whitespace()
                        .map(|pid| pid.parse::<i32>().unwrap()),
                );
            }
            at += 1;
        }
        found.split_off(1)
    }

    fn workers() -> Vec<i32> {
        let named = |pid: &i32| {
            let name = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            name.windows(6).any(|part| part == b"sqlite")
        };
        children().into_iter().filter(named).collect()
    }

    async fn until(what: &str, done: impl Fn() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn killed(level: Level) {
        with(
            level,
            |_| (),
            async |database| {
                run(&database, "create table t (a)").await.unwrap();
                for round in 0..10 {
                    run(&database, "insert into t values (1)").await.unwrap();
                    let [worker] = workers()[..] else {
                        panic!("{:?}", workers());
                    };
                    let transaction = if round % 2 == 0 {
                        let transaction = database.begin().await.unwrap();
                        let lost = vec![statement("insert into t values (100)", [])];
                        transaction.run(lost).await.unwrap();
                        Some(transaction)
                    } else {
                        None
                    };
                    let pid = rustix::process::Pid::from_raw(worker).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                    until("the worker ends", || !workers().contains(&worker)).await;
                    if let Some(transaction) = transaction {
                        let error = transaction.commit().await.unwrap_err();
                        assert!(matches!(error, SqlError::Failed(_)), "{error:?}");
                    } else {
                        run(&database, "select 1").await.unwrap_err();
                    }
                    assert_eq!(number(&database, "select sum(a) from t").await, round + 1);
                }
            },
        );
    }

    fn interchange(level: Level) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let other = rusqlite::Connection::open(&path).unwrap();
        let sql = "create table t (a); insert into t values (1)";
        other.execute_batch(sql).unwrap();
        drop(other);
        block_on(async {
            let database = Database::open(options(&path, level)).unwrap();
            run(&database, "insert into t values (2)").await.unwrap();
            // It is locked for others.
            let other = rusqlite::Connection::open(&path).unwrap();
            other.busy_timeout(Duration::ZERO).unwrap();
            let count = other.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0));
            count.unwrap_err();
            drop(other);
            let error = Database::open(options(&path, level)).unwrap_err();
            assert!(matches!(error, OpenError::Locked(_)), "{error}");
        });
        // The runtime has ended, and with it the worker.
        let began = Instant::now();
        while !workers().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        let other = rusqlite::Connection::open(&path).unwrap();
        let sum: i64 = other
            .query_row("select sum(a) from t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sum, 3);
        let check: String = other
            .query_row("pragma integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }

    fn idle(level: Level) {
        let change = |options: &mut DatabaseOptions| options.idle = Duration::from_secs(1);
        with(level, change, async |database| {
            run(&database, "create table t (a)").await.unwrap();
            assert_eq!(workers().len(), 1);
            until("the worker ends", || workers().is_empty()).await;
            assert_eq!(number(&database, "select count(*) from t").await, 0);
        });
    }

    fn queue(level: Level) {
        let change = |options: &mut DatabaseOptions| {
            options.queue = 2;
            options.queue_time = Duration::from_millis(500);
        };
        with(level, change, async |database| {
            let transaction = database.begin().await.unwrap();
            let call = || {
                let database = database.clone();
                tokio::spawn(async move { run(&database, "select 1").await })
            };
            let calls = [call(), call(), call()];
            let mut busy = 0;
            for call in calls {
                let error = call.await.unwrap().unwrap_err();
                assert!(matches!(error, SqlError::Busy(_)), "{error:?}");
                busy += 1;
            }
            assert_eq!(busy, 3);
            transaction.commit().await.unwrap();
            assert_eq!(number(&database, "select 1").await, 1);
        });
    }

    fn read_only(level: Level) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut options = options(&path, level);
        options.access = Access::Read;
        let error = Database::open(options.clone()).unwrap_err();
        assert!(matches!(error, OpenError::File { .. }), "{error}");
        let other = rusqlite::Connection::open(&path).unwrap();
        let sql = "create table t (a); insert into t values (1)";
        other.execute_batch(sql).unwrap();
        drop(other);
        block_on(async {
            let database = Database::open(options).unwrap();
            assert_eq!(number(&database, "select a from t").await, 1);
            for sql in [
                "insert into t values (2)",
                "create table u (a)",
                "delete from t",
            ] {
                let error = run(&database, sql).await.unwrap_err();
                assert_eq!(code(&error), "SQLITE_READONLY", "{sql}");
            }
        });
    }

    fn broken(level: Level) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::write(
            &path,
            "not a database, but a text that is long enough".repeat(100),
        )
        .unwrap();
        block_on(async {
            let database = Database::open(options(&path, level)).unwrap();
            let error = run(&database, "select 1").await.unwrap_err();
            assert!(
                matches!(&error, SqlError::Failed(why) if why.contains("NOTADB")),
                "{error:?}"
            );
            assert!(!error.to_string().contains("a.db"), "{error}");
        });
        assert!(std::fs::read(&path).unwrap().starts_with(b"not a database"));
    }
}
