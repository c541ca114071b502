#include "runtime/data/text_input.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/stat.h>
#include <vector>

#include <zlib.h>
#include <zstd.h>

#include "kernels/core/error.h"

namespace sluice {
namespace {

class PlainInput : public TextInput {
 public:
  explicit PlainInput(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "rb"), &std::fclose) {
    ENSURE(file_, path_, ": cannot open: ", std::strerror(errno));
  }

  size_t read(char* data, size_t size) override {
    const size_t got = std::fread(data, 1, size, file_.get());
    ENSURE(got > 0 || !std::ferror(file_.get()), path_, ": cannot read: ", std::strerror(errno));
    return got;
  }

 private:
  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

class GzipInput : public TextInput {
 public:
  explicit GzipInput(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb"), &gzclose) {
    ENSURE(file_, path_, ": cannot open: ", std::strerror(errno));
    gzbuffer(file_.get(), 1 << 17);
  }

  size_t read(char* data, size_t size) override {
    const int got = gzread(file_.get(), data, static_cast<unsigned>(std::min<size_t>(size, 1 << 30)));
    int error = Z_OK;
    const char* message = gzerror(file_.get(), &error);
    ENSURE(got >= 0 && error == Z_OK, path_, ": damaged or cut off: ", message);
    ENSURE(got == 0 || !gzdirect(file_.get()), path_, ": not a gzip file");
    return static_cast<size_t>(got);
  }

 private:
  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

class ZstdInput : public TextInput {
 public:
  explicit ZstdInput(const std::string& path)
      : path_(path), file_(path), stream_(ZSTD_createDStream(), &ZSTD_freeDStream), buffer_(ZSTD_DStreamInSize()) {}

  size_t read(char* data, size_t size) override {
    ZSTD_outBuffer out{data, size, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size && !more_output_) {
        in_ = {buffer_.data(), file_.read(buffer_.data(), buffer_.size()), 0};
        if (in_.size == 0) {
          ENSURE(frame_complete_, path_, ": the zstd file is cut off");
          return 0;
        }
      }
      const size_t rest = ZSTD_decompressStream(stream_.get(), &out, &in_);
      ENSURE(!ZSTD_isError(rest), path_, ": damaged: ", ZSTD_getErrorName(rest));
      frame_complete_ = rest == 0;
      more_output_ = out.pos == out.size;
    }
    return out.pos;
  }

 private:
  std::string path_;
  PlainInput file_;
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
  std::vector<char> buffer_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool frame_complete_ = false;
  bool more_output_ = false;  // the decoder may hold output although its input is used up
};

}  // namespace

std::unique_ptr<TextInput> open_text(const std::string& path) {
  struct stat status {};
  ENSURE(::stat(path.c_str(), &status) == 0, path, ": cannot open: ", std::strerror(errno));
  ENSURE(!S_ISDIR(status.st_mode), path, ": is a folder; expected a text file");
  if (path.ends_with(".gz")) return std::make_unique<GzipInput>(path);
  if (path.ends_with(".zst")) return std::make_unique<ZstdInput>(path);
  return std::make_unique<PlainInput>(path);
}

}  // namespace sluice
