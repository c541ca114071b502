#include "parallel/watch/node_link.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sstream>
#include <zmq.hpp>

#include "parallel/agree.h"

namespace sluice {
namespace {

// A spoke that cannot reach the hub forgets old reports.
constexpr int kReportsKept = 8;
// Of 4096 calls a rank, some 500 KB each.
constexpr int64_t kMostReportBytes = int64_t{1} << 26;
// Of reports at a look, so that the thread that takes them beats.
constexpr int kMostReports = 512;

/// A pair of keys of CurveZMQ, as text without blanks.
struct Keys {
  static constexpr size_t kBytes = 41;
  char open[kBytes] = "", secret[kBytes] = "";
  Keys() { ENSURE(zmq_curve_keypair(open, secret) == 0, "the watchdog cannot make keys: ", zmq_strerror(zmq_errno())); }
};

/// Addresses that other nodes may reach, as ZeroMQ writes them; the loopback one when there are no others.
std::vector<std::string> own_addresses() {
  std::vector<std::string> addresses;
  ifaddrs* all = nullptr;
  ENSURE(getifaddrs(&all) == 0, "the watchdog cannot list the network interfaces of this machine");
  for (const ifaddrs* entry = all; entry; entry = entry->ifa_next) {
    if (!entry->ifa_addr || !(entry->ifa_flags & IFF_UP) || entry->ifa_flags & IFF_LOOPBACK) continue;
    char text[INET6_ADDRSTRLEN] = "";
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      addresses.emplace_back(inet_ntop(AF_INET, &address->sin_addr, text, sizeof text));
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* address = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) continue;
      addresses.push_back(std::string("[") + inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text) + "]");
    }
  }
  freeifaddrs(all);
  if (addresses.empty()) addresses.emplace_back("127.0.0.1");
  return addresses;
}

}  // namespace

struct NodeLink::Sockets {
  explicit Sockets(Role role)
      : socket(context, role == Role::kHub ? zmq::socket_type::router : zmq::socket_type::dealer) {
    socket.set(zmq::sockopt::ipv6, true);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::maxmsgsize, kMostReportBytes);
    if (role == Role::kSpoke) {
      socket.set(zmq::sockopt::immediate, true);
      socket.set(zmq::sockopt::sndhwm, kReportsKept);
    }
  }
  zmq::context_t context;
  zmq::socket_t socket;
};

NodeLink::NodeLink(ProcessGroup& world, Role role) : role_(role) {
  std::string invitation;
  agree(world, [&] {
    try {
      if (role != Role::kBystander) sockets_ = std::make_unique<Sockets>(role);
      if (role != Role::kHub) return;
      const Keys keys;
      sockets_->socket.set(zmq::sockopt::curve_server, true);
      sockets_->socket.set(zmq::sockopt::curve_secretkey, std::string_view(keys.secret));
      sockets_->socket.bind("tcp://*:*");
      const std::string bound = sockets_->socket.get(zmq::sockopt::last_endpoint);
      invitation = concat(keys.open, " ", bound.substr(bound.rfind(':') + 1));
      for (const std::string& address : own_addresses()) invitation += " " + address;
    } catch (const zmq::error_t& error) {
      throw Error(concat("the watchdog cannot listen: ", error.what(), "; watchdog.deadline_s=0 does without"),
                  __FILE__, __LINE__);
    }
  });
  std::istringstream words(broadcast_string(world, invitation));
  std::string hub_key, port, address;
  words >> hub_key >> port;
  if (role != Role::kSpoke) return;
  const Keys keys;
  sockets_->socket.set(zmq::sockopt::curve_serverkey, hub_key);
  sockets_->socket.set(zmq::sockopt::curve_publickey, std::string_view(keys.open));
  sockets_->socket.set(zmq::sockopt::curve_secretkey, std::string_view(keys.secret));
  while (words >> address) sockets_->socket.connect("tcp://" + address + ":" + port);
}

NodeLink::~NodeLink() = default;

std::string NodeLink::packed(const std::vector<RankState>& states) {
  NodeReport report;
  for (const RankState& state : states) *report.add_ranks() = state;
  return report.SerializeAsString();
}

void NodeLink::report(const std::vector<RankState>& states) {
  if (role_ == Role::kSpoke) sockets_->socket.send(zmq::buffer(packed(states)), zmq::send_flags::dontwait);
}

std::vector<NodeReport> NodeLink::receive(const std::vector<RankState>& answer) {
  std::vector<NodeReport> reports;
  if (role_ == Role::kBystander) return reports;
  const std::string packed_answer = role_ == Role::kHub ? packed(answer) : "";
  zmq::message_t sender, message;
  for (int i = 0; i < kMostReports && sockets_->socket.recv(message, zmq::recv_flags::dontwait); ++i) {
    // A router sees the address of who sent a message in front of it.
    if (role_ == Role::kHub) sender.copy(message);
    while (message.more()) (void)sockets_->socket.recv(message);
    NodeReport report;
    if (!report.ParseFromArray(message.data(), static_cast<int>(message.size()))) continue;
    reports.push_back(std::move(report));
    if (role_ != Role::kHub) continue;
    sockets_->socket.send(sender, zmq::send_flags::sndmore | zmq::send_flags::dontwait);
    sockets_->socket.send(zmq::buffer(packed_answer), zmq::send_flags::dontwait);
  }
  return reports;
}

}  // namespace sluice
