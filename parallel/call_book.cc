#include "parallel/call_book.h"

#include <cstring>

#include <xxhash.h>

namespace sluice {
namespace {

constexpr size_t kExpectedKinds = 1024;

const char* file_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash ? slash + 1 : path;
}

}  // namespace

size_t CallBook::KeyHash::operator()(const Key& key) const { return XXH3_64bits(&key, sizeof key); }

CallBook::CallBook() {
  numbers_.reserve(kExpectedKinds);
  kinds_.reserve(kExpectedKinds);
}

uint32_t CallBook::number(const GroupCall& call) {
  const bool by_data = std::strcmp(call.operation, "all_to_all") == 0;
  const Tensor& x = call.in ? call.in : call.out;
  const int64_t count = by_data || !x ? -1 : x.count();
  const Key key{&call.group,      call.operation, call.site.file_name(),
                call.site.line(), count,          static_cast<int64_t>(x.dtype)};
  const auto [at, is_new] = numbers_.try_emplace(key, size());
  if (is_new) {
    const std::string amount = count < 0 ? "" : concat(" of ", count, " ", dtype_name(x.dtype));
    CallKind kind;
    kind.text =
        concat(call.group.name(), ".", call.operation, amount, " at ", file_name(key.file), ":", call.site.line());
    kind.hash = XXH3_64bits(kind.text.data(), kind.text.size());
    kinds_.push_back(std::move(kind));
  }
  return at->second;
}

uint64_t rolled(uint64_t hash, uint64_t item) {
  const uint64_t both[2] = {hash, item};
  return XXH3_64bits(both, sizeof both);
}

}  // namespace sluice
