use std::time::Instant;
use walrus_node::*;
fn main() {
    let dir = std::path::PathBuf::from("/work/probe-log");
    let _ = std::fs::remove_dir_all(&dir);
    let t = Instant::now();
    let log = Engine::open(
        &dir,
        Options { io: std::env::args().nth(1).unwrap_or("auto".into()).parse().unwrap(), ..Options::default() },
    )
    .unwrap();
    println!("open fresh {:?} io {}", t.elapsed(), log.status().io);
    let p = vec![7u8; 256];
    let t = Instant::now();
    let n = 5000;
    for _ in 0..n {
        log.append("t", p.clone()).unwrap().wait().unwrap();
    }
    println!("depth1 {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    let n = 200000;
    let mut q = std::collections::VecDeque::new();
    for _ in 0..n {
        q.push_back(log.append("t", p.clone()).unwrap());
        if q.len() >= 64 {
            q.pop_front().unwrap().wait().unwrap();
        }
    }
    for x in q {
        x.wait().unwrap();
    }
    println!("64 tickets {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    let n = 1000000;
    let mut q = std::collections::VecDeque::new();
    for _ in 0..n {
        q.push_back(log.append("t", p.clone()).unwrap());
        if q.len() >= 1024 {
            q.pop_front().unwrap().wait().unwrap();
        }
    }
    for x in q {
        x.wait().unwrap();
    }
    println!("1024 tickets {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    let n = 4000;
    let mut q = std::collections::VecDeque::new();
    let b: Vec<bytes::Bytes> = (0..256).map(|_| bytes::Bytes::from(p.clone())).collect();
    for _ in 0..n {
        q.push_back(log.append_batch("t", b.clone()).unwrap());
        if q.len() >= 8 {
            q.pop_front().unwrap().wait().unwrap();
        }
    }
    for x in q {
        x.wait().unwrap();
    }
    println!("batches 256 8 deep {:.0} entries/s", n as f64 * 256.0 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    log.close().unwrap();
    println!("close {:?}", t.elapsed());
    drop(log);
    let t = Instant::now();
    let log = Engine::open(&dir, Options::default()).unwrap();
    println!("reopen {:?} {:?}", t.elapsed(), log.status().log_bytes);
    let t = Instant::now();
    let mut o = 0;
    let mut bytes = 0;
    loop {
        let e = log.read("t", o, ReadLimit::default()).unwrap();
        if e.is_empty() {
            break;
        }
        bytes += e.iter().map(|e| e.payload.len()).sum::<usize>();
        o = e.last().unwrap().offset + 1;
    }
    println!("read {} entries {:.0} MB/s", o, bytes as f64 / 1e6 / t.elapsed().as_secs_f64());
}
