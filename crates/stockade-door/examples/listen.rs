//! Serves a door on a local TCP port, for a driver that runs outside of any guest:
//!
//! ```sh
//! DOOR_PASSWORD=… cargo run --release -p stockade-door --example listen -- postgres 127.0.0.1:5432 app shop 6432
//! ```
//!
//! The arguments are the kind of server, its address, the user, the database, and the port to listen on. Everyone who
//! reaches the port may use the server as that user: this is for tests and measurements.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_door::{
    Dial, Limits, Login, PoolLimits, Server, ServerStream, mysql, postgres, redis,
};
use tokio::net::{TcpListener, TcpStream};

struct To(SocketAddr);

impl Dial for To {
    fn dial(&self) -> BoxFuture<'static, io::Result<ServerStream>> {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as ServerStream)
        })
    }
}

enum Door {
    Postgres(postgres::Door),
    Mysql(mysql::Door),
    Redis(redis::Door),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, server, user, database, port] = &arguments[..] else {
        return Err("five arguments are needed: kind, server, user, database, port".into());
    };
    let dial = Arc::new(To(server.parse()?));
    let login = Login {
        user: user.clone(),
        password: std::env::var("DOOR_PASSWORD").unwrap_or_default(),
        database: database.clone(),
    };
    let (tls, allow_superuser, limits) = (None, true, Limits::default());
    let pool = PoolLimits {
        connections: 20,
        per_owner: 20,
        ..PoolLimits::default()
    };
    let server = Server {
        dial,
        tls,
        login,
        allow_superuser,
    };
    let door = match kind.as_str() {
        "postgres" => {
            let name = "stockade-door".to_owned();
            Door::Postgres(postgres::Door::new(server, name, limits, pool))
        }
        "mysql" => Door::Mysql(mysql::Door::new(server, limits, pool)),
        "redis" => {
            let commands = redis::Commands::new(&[], &[]);
            Door::Redis(redis::Door::new(server, commands, limits, pool))
        }
        _ => return Err("the kind is postgres, mysql or redis".into()),
    };
    let door = Arc::new(door);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            match &*door {
                Door::Postgres(door) => door.serve(1, stream).await,
                Door::Mysql(door) => door.serve(1, stream).await,
                Door::Redis(door) => door.serve(1, stream).await,
            }
        });
    }
}
