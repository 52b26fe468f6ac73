//! What real machines reach, with an internet behind an emulated host: what their policy allows, never the
//! host, its neighbours or metadata, and nothing at all as somebody else, even for a guest that has its own
//! kernel do as it likes.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use cpio::newc::{self, Builder, ModeFileType};
use domain::egress::EgressPolicy;
use drivers::{
    Driver as _, Limits, Spec, Template,
    cloud_hypervisor::CloudHypervisor,
    contract::{new_id, sandbox::Sandbox, spec},
};

use crate::{
    host::RealHost,
    network::{
        internet::{
            self, HOST, Internet, METADATA, OTHER_SITE, PRIVATE, SITE, SITE_6, SITES, is_inside,
            only,
        },
        namespace::Namespace,
    },
    traces::{Host as _, remove_without_a_trace},
};

/// A port that nobody answers at, but notes what comes.
const NOTED: u16 = 9998;
/// A guest that boots, and says what it has to say, does so within this.
const PATIENCE: Duration = Duration::from_secs(55);

type Heard = Arc<Mutex<BTreeSet<String>>>;

/// What a machine prints of an attempt to connect: whom the other end saw, or why not.
async fn attempt(sandbox: &Sandbox, address: &str, port: u16) -> String {
    let line = format!("timeout 20 bash -c 'cat </dev/tcp/{address}/{port}' 2>&1; true");
    sandbox.printed(&line).await
}

async fn is_refused(sandbox: &Sandbox, address: &str, port: u16) {
    let printed = attempt(sandbox, address, port).await;
    assert!(printed.contains("No route to host"), "{address}:{port} is refused at once: {printed}");
}

/// The address that a sandbox has on the host's side of its namespace.
fn address_outside(host: &RealHost, sandbox: &Sandbox) -> String {
    let output = host.inside(sandbox.id).script("ip -oneline -4 address show dev uplink").output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned()
}

async fn reaches_what_its_policy_allows(mut host: RealHost, around: &Internet) {
    host.config.network = internet::config();
    let of = |egress| Spec { egress, ..spec() };
    let free = Sandbox::with(host.driver(), &of(EgressPolicy::allow_all())).await;
    let narrow = only(&[SITES], &[], &[80]);
    let bound = Sandbox::with(host.driver(), &of(narrow)).await;

    for site in [SITE, OTHER_SITE] {
        assert_eq!(attempt(&free, site, 443).await, HOST, "{site} sees the host's address");
    }
    assert_eq!(attempt(&bound, SITE, 80).await, HOST);
    is_refused(&bound, SITE, 443).await;
    is_refused(&bound, OTHER_SITE, 80).await;

    let outside = [address_outside(&host, &free), address_outside(&host, &bound)];
    assert_ne!(outside[0], outside[1]);
    for sandbox in [&free, &bound] {
        for address in METADATA.into_iter().chain([PRIVATE, HOST]) {
            assert!(
                around.outside.connect(&format!("{address}:80"), PATIENCE).is_ok(),
                "it is there"
            );
            is_refused(sandbox, address, 80).await;
        }
        for address in &outside {
            assert_ne!(attempt(sandbox, address, 80).await, HOST, "{address}");
        }
        let printed = attempt(sandbox, SITE_6, 80).await;
        // Neither an address of its own nor a way there.
        let has_none = ["Cannot assign requested address", "unreachable"];
        assert!(has_none.iter().any(|words| printed.contains(words)), "by IPv6: {printed}");
    }

    // Names are asked for at the resolver that the machine was told of.
    let before = around.n_questions.load(std::sync::atomic::Ordering::Relaxed);
    free.printed("timeout 10 getent hosts name.example; true").await;
    assert!(around.n_questions.load(std::sync::atomic::Ordering::Relaxed) > before);

    bound.remove().await;
    remove_without_a_trace(&host, free.id).await;
    assert_eq!(around.cards(), Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_that_booted_reaches_what_its_policy_allows() {
    if is_inside("egress::a_machine_that_booted_reaches_what_its_policy_allows") {
        reaches_what_its_policy_allows(RealHost::new(), &Internet::make()).await;
    }
}

#[tokio::test]
async fn a_clone_reaches_what_its_policy_allows() {
    if is_inside("egress::a_clone_reaches_what_its_policy_allows") {
        let around = Internet::make();
        reaches_what_its_policy_allows(RealHost::warm().await, &around).await;
    }
}

/// What a guest runs that has taken over its kernel: packets of every kind, for as long as it lasts.
const HOSTILE: &str = r#"
import socket, struct, sys, time

MAC, GATEWAY_MAC = bytes.fromhex("0263726f7702"), bytes.fromhex("0263726f7701")
OWN, SITE, SITE_6, NOTED = "100.96.0.2", sys.argv[1], sys.argv[2], int(sys.argv[3])
NEVER = sys.argv[4:]

card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
card.bind(("eth0", 0))


def total(data):
    data += b"\0" * (len(data) % 2)
    summed = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while summed >> 16:
        summed = (summed & 0xFFFF) + (summed >> 16)
    return ~summed & 0xFFFF


def datagram(label, source, target):
    data = label.encode()
    head = struct.pack("!HHHH", 4000, NOTED, 8 + len(data), 0)
    pseudo = source + target + struct.pack("!HH", 17, 8 + len(data))
    return head[:6] + struct.pack("!H", total(pseudo + head + data) or 0xFFFF) + data


def say(label, source=OWN, target=SITE, mac=MAC):
    source, target = socket.inet_aton(source), socket.inet_aton(target)
    inner = datagram(label, source, target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 1, 0, 64, 17, 0) + source + target
    head = head[:10] + struct.pack("!H", total(head)) + head[12:]
    card.send(GATEWAY_MAC + mac + b"\x08\x00" + head + inner)


def say_6(label):
    source = socket.inet_pton(socket.AF_INET6, "2001:db8:9::2")
    target = socket.inet_pton(socket.AF_INET6, SITE_6)
    data = label.encode()
    length = struct.pack("!I", 8 + len(data))
    head = struct.pack("!HHHH", 4000, NOTED, 8 + len(data), 0)
    check = total(source + target + length + struct.pack("!I", 17) + head + data)
    inner = head[:6] + struct.pack("!H", check) + data
    outer = struct.pack("!IHBB", 6 << 28, len(inner), 17, 64) + source + target
    card.send(GATEWAY_MAC + MAC + b"\x86\xdd" + outer + inner)


while True:
    say("its own")
    for source in ["100.96.0.6", "100.96.0.9", "203.0.113.77", "169.254.1.1", "198.51.100.1"]:
        say(f"as {source}", source=source)
    say("another card's", mac=bytes.fromhex("0263726f7709"))
    say_6("by IPv6")
    for target in NEVER:
        say(f"to {target}", target=target)
    say("all of it")
    time.sleep(0.2)
"#;

/// Its first process: a network, and the program above in the template's image.
const INIT: &str = r#"#!/busybox sh
for module in /modules/*.ko; do /busybox insmod "$module"; done
/busybox mkdir /proc /image
/busybox mount -t proc proc /proc
/busybox mount -t devtmpfs dev /dev
/busybox mount -t erofs -o ro /dev/vda /image || /busybox mount -t squashfs -o ro /dev/vda /image
/busybox ip link set eth0 up
/busybox chroot /image python3 -c "$(/busybox cat /hostile)" $(/busybox cat /arguments)
/busybox sleep 1000
"#;

/// An initial file system with this instead of the agent: kernels unpack what comes later over what came
/// before.
fn hostile_initramfs(usual: &Path, to: &Path, arguments: &str) {
    let mut packed = fs::read(usual).unwrap();
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    for (name, mode, content) in [
        ("init", 0o755, INIT.as_bytes()),
        ("busybox", 0o755, &*busybox),
        ("hostile", 0o644, HOSTILE.as_bytes()),
        ("arguments", 0o644, arguments.as_bytes()),
    ] {
        let file = Builder::new(name).mode(mode).set_mode_file_type(ModeFileType::Regular);
        let mut writer = file.write(&mut packed, u32::try_from(content.len()).unwrap());
        std::io::Write::write_all(&mut writer, content).unwrap();
        writer.finish().unwrap();
    }
    fs::write(to, newc::trailer(packed).unwrap()).unwrap();
}

/// Whatever it sends: only what it sends as itself to where it may is ever heard.
#[tokio::test]
async fn a_guest_that_takes_another_address_gains_nothing() {
    if !is_inside("egress::a_guest_that_takes_another_address_gains_nothing") {
        return;
    }
    let around = Internet::make();
    let mut host = RealHost::new();
    let neighbour = Sandbox::with(host.driver(), &spec()).await;
    let never: Vec<_> = METADATA
        .into_iter()
        .map(str::to_owned)
        .chain([PRIVATE.to_owned(), HOST.to_owned(), address_outside(&host, &neighbour)])
        .collect();
    let beyond: Vec<_> = METADATA.into_iter().chain([PRIVATE, SITE, SITE_6]).collect();
    let heard = noted(&around.internet, &beyond);
    let heard_by_host = noted(&around.outside, &[HOST]);
    // All of them hear what is said to them.
    for address in beyond.iter().copied().chain([HOST]) {
        let to = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        // Nobody answers.
        let _ = around.outside.ask(&format!("{to}:{NOTED}"), Duration::from_millis(1));
    }
    until(|| is_in(&heard, "who am I?") && is_in(&heard_by_host, "who am I?")).await;

    let initramfs: PathBuf = host.state_dir().join("hostile");
    let arguments = format!("{SITE} {SITE_6} {NOTED} {}", never.join(" "));
    hostile_initramfs(&host.config.initramfs, &initramfs, &arguments);
    host.config.initramfs = initramfs;
    host.config.network = internet::config();
    let driver = CloudHypervisor::new(host.config.clone());
    let template = Template { slug: "python-node".to_owned(), ..spec().template };
    let limits = Limits { memory_mib: 512, ..spec().limits };
    let hostile = Spec { template, limits, egress: EgressPolicy::allow_all(), ..spec() };
    let id = new_id();
    let starting = {
        let driver = driver.clone();
        tokio::spawn(async move { driver.ensure(id, &hostile).await })
    };
    until(|| is_in(&heard, "all of it")).await;
    // It never was a sandbox, and is not kept.
    starting.await.unwrap().unwrap_err();
    let wanted = ["all of it", "its own", "who am I?"].map(str::to_owned);
    assert_eq!(*heard.lock().unwrap(), BTreeSet::from(wanted));
    assert_eq!(*heard_by_host.lock().unwrap(), BTreeSet::from(["who am I?".to_owned()]));
    driver.remove(id).await.unwrap();
    remove_without_a_trace(&host, neighbour.id).await;
    assert_eq!(around.cards(), Vec::<String>::new());
}

/// Notes what is sent to one of these addresses, and answers nothing.
fn noted(place: &Namespace, addresses: &[&str]) -> Heard {
    let heard = Heard::default();
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        let socket = place.enter(|| UdpSocket::bind((address, NOTED))).unwrap();
        let heard = Arc::clone(&heard);
        thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((n_bytes, _)) = socket.recv_from(&mut packet) {
                let text = String::from_utf8_lossy(&packet[..n_bytes]).into_owned();
                heard.lock().unwrap().insert(text);
            }
        });
    }
    heard
}

fn is_in(heard: &Heard, label: &str) -> bool {
    heard.lock().unwrap().contains(label)
}

/// Looks again and again for what no event tells.
async fn until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
