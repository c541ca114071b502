#include "runtime/verify/evidence.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "kernels/elementwise.h"
#include "parallel/observer_list.h"
#include "runtime/step.h"
#include "runtime/validate.h"
#include "runtime/verify/made_up_samples.h"

namespace sluice {
namespace {

/// Remembers the last call, and the last of each group from each source file.
class LastCall : public GroupObserver {
 public:
  void before(const GroupCall&) override {}
  void after(const GroupCall& call) override {
    if (call.group.size() == 1) return;
    const std::string file = std::filesystem::path(call.site.file_name()).filename().string();
    text_ = concat(call.group.name(), ".", call.operation, " at ", file, ":", call.site.line());
    texts_[{file, call.group.name()}] = text_;
  }
  const std::string& text() const { return text_; }
  /// Empty when there was none.
  std::string text(const std::string& file, const std::string& group) const {
    const auto found = texts_.find({file, group});
    return found == texts_.end() ? "" : found->second;
  }

 private:
  std::string text_ = "none";
  std::map<std::pair<std::string, std::string>, std::string> texts_;
};

void append(Tensor x, std::vector<double>& values) {
  dispatch_float(x.dtype, [&]<class T>() { values.insert(values.end(), x.as<T>(), x.as<T>() + x.count()); });
}

/// Keeps what this rank sees.
class Recorder : public Probe {
 public:
  Recorder(const LastCall& last, int64_t layers) : last_(last), layers_(layers) {}
  void see(const char* what, int64_t layer, Tensor x) override {
    const bool outside = layer < 0 || layer == layers_;
    SeenTensor seen{outside ? what : concat("layer ", layer, ", ", what), last_.text(), {}};
    append(x, seen.values);
    if (layer < 0) micro_steps.emplace_back();
    micro_steps.back().push_back(std::move(seen));
  }

  std::vector<std::vector<SeenTensor>> micro_steps;

 private:
  const LastCall& last_;
  const int64_t layers_;
};

/// Equally many values of every rank, in rank order.
std::vector<double> gather(ProcessGroup& world, std::vector<double> own) {
  std::vector<double> all(own.size() * static_cast<size_t>(world.size()));
  const auto view = [](std::vector<double>& v) {
    return Tensor{v.data(), DType::kF64, Device::kCpu, {static_cast<int64_t>(v.size())}};
  };
  world.all_gather(view(own), view(all)).wait();
  return all;
}

/// A training run of this rank.
class Run {
 public:
  Run(const TrainConfig& config, ProcessGroup& world, Stream& s, const EvidenceOptions& options)
      : config_(config),
        s_(s),
        mesh_(mesh_shape(config), world),
        observers_(options.observer ? std::vector<GroupObserver*>{&last_, options.observer}
                                    : std::vector<GroupObserver*>{&last_}),
        recorder_(last_, config.model().num_layers()),
        model_(config.model(), config.optimizer().decay_embeddings(), compute_dtype(config.precision()), mesh_.shape(),
               world.rank()),
        transformer_(config.model(), config.training(), model_.weights.dtype, config.training().sequence_length(),
                     model_.state),
        step_(config, transformer_, model_, mesh_, s) {
    initialise_parameters(model_.records, static_cast<uint64_t>(config.training().seed()), s, model_.weights);
    if (options.prepare) options.prepare(model_);
  }

  Evidence run(int64_t steps) {
    Evidence evidence;
    evidence.initial = gather_parameters(nullptr);
    for (int64_t step = 1; step <= steps; ++step) {
      step_.set_probe(step == 1 ? &recorder_ : nullptr);
      mesh_.observe(&observers_);
      evidence.steps.push_back(take_step(step));
      step_.wait_for_weights();
      mesh_.observe(nullptr);
      evidence.steps.back().after = last_.text();
      evidence.steps.back().disagreement = disagreement(evidence.steps.back());
      if (step == 1) gather_first_step(evidence);
    }
    evidence.parameters = gather_parameters(&evidence.copy_distance);
    const ActivationMemory& memory = step_.memory();
    for (const Arena* arena : {&memory.kept, &memory.saved, &memory.recompute, &memory.scratch}) {
      evidence.activation_bytes += arena->high_water_bytes();
    }
    mesh_.world().all_reduce({&evidence.activation_bytes, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
    return evidence;
  }

 private:
  Evidence::Step take_step(int64_t step) {
    const TrainingConfig& t = config_.training();
    const int64_t together = t.micro_batch_size() * mesh_.shape().dp, first = (step - 1) * t.global_batch_size();
    Batch batch;
    fill_samples(config_, first, t.global_batch_size(), batch);
    LossScale scale;
    scale.step_targets = std::max<int64_t>(batch.target_count, 1);
    scale.micro_step_tokens = together * t.sequence_length();
    scale.micro_steps = t.global_batch_size() / together;
    int64_t next = first + mesh_.place().dp * t.micro_batch_size();
    const StepResult& result = step_.run(s_, step, config_.optimizer().lr(), scale, [&]() -> const Batch& {
      fill_samples(config_, next, t.micro_batch_size(), batch);
      next += together;
      return batch;
    });
    const Tensor counts = step_.expert_counts();
    Evidence::Step seen{result.losses.loss,
                        result.losses.lm_loss,
                        result.losses.balance_loss,
                        result.losses.z_loss,
                        result.grad_norm,
                        result.clip_factor,
                        {},
                        0,
                        ""};
    seen.expert_counts.assign(counts.as<int64_t>(), counts.as<int64_t>() + counts.count());
    return seen;
  }

  /// Every rank calls it.
  double disagreement(const Evidence::Step& seen) const {
    std::vector<double> own = {seen.loss,   seen.lm_loss,   seen.balance_loss,
                               seen.z_loss, seen.grad_norm, seen.clip_factor};
    own.insert(own.end(), seen.expert_counts.begin(), seen.expert_counts.end());
    const size_t n = own.size();
    const std::vector<double> all = gather(mesh_.world(), std::move(own));
    double largest = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const double distance = std::abs(all[i] - all[i % n]);
      largest = std::isnan(distance) ? INFINITY : std::max(largest, distance);
    }
    return largest;
  }

  void gather_first_step(Evidence& evidence) {
    evidence.stream = std::move(recorder_.micro_steps);
    for (auto& micro_step : evidence.stream) {
      for (SeenTensor& seen : micro_step) seen.values = gather(mesh_.world(), std::move(seen.values));
    }
    std::vector<double> own;
    for (size_t i = 0; i < model_.layout.buckets().size(); ++i) {
      append(step_.gradients().owned(i), own);
    }
    evidence.gradients = assemble(gather(mesh_.world(), std::move(own)), true, nullptr);
    for (size_t i = 0; i < model_.records.size(); ++i) evidence.gradients[i].after = sum_of_gradient(i);
  }

  std::string sum_of_gradient(size_t record) const {
    return last_.text("gradient_reducer.cc", mesh_.replicas(model_.records[record].replicas).name());
  }

  std::vector<SeenTensor> gather_parameters(std::vector<double>* copy_distance) {
    std::vector<double> own;
    append(model_.weights, own);
    std::vector<SeenTensor> whole = assemble(gather(mesh_.world(), std::move(own)), false, copy_distance);
    for (size_t i = 0; i < whole.size(); ++i) {
      whole[i].after = last_.text("parameter_gather.cc", mesh_.replicas(model_.records[i].replicas).name());
      if (whole[i].after.empty()) whole[i].after = sum_of_gradient(i);
    }
    return whole;
  }

  /// Whole parameters of what all ranks have: their owned parts, or all that they hold. `distance`, of every parameter:
  /// how far the copies of a rank are at most from those of the first that has them.
  std::vector<SeenTensor> assemble(const std::vector<double>& all, bool owned_only, std::vector<double>* distance) {
    std::vector<SeenTensor> whole;
    std::vector<std::vector<bool>> known;
    for (const ParameterRecord& r : model_.records) {
      whole.push_back({r.name, "", std::vector<double>(static_cast<size_t>(r.global_count()))});
      known.emplace_back(static_cast<size_t>(r.global_count()), false);
    }
    if (distance) distance->assign(whole.size(), 0);
    const int ranks = mesh_.world().size();
    const int64_t each = static_cast<int64_t>(all.size()) / ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      std::vector<ParameterRecord> records =
          parameter_records(config_.model(), config_.optimizer().decay_embeddings(), mesh_.shape(), rank);
      const FlatLayout layout(records, mesh_.shape());
      std::vector<OwnedPart> parts = owned_parts(layout, mesh_.shape(), rank);
      if (!owned_only) parts = {{0, layout.count(), 0}};
      const double* values = all.data() + rank * each;
      for (size_t i = 0; i < records.size(); ++i) {
        const double squares = place(records[i], parts, values, whole[i].values, known[i]);
        if (distance) (*distance)[i] = std::max((*distance)[i], std::sqrt(squares));
      }
    }
    for (size_t i = 0; i < whole.size(); ++i) {
      INVARIANT(std::find(known[i].begin(), known[i].end(), false) == known[i].end(), whole[i].name,
                ": no rank has some element");
    }
    return whole;
  }

  /// Writes a rank's elements of a parameter to their places; returns the squared distance from those known before.
  static double place(const ParameterRecord& r, const std::vector<OwnedPart>& parts, const double* values,
                      std::vector<double>& whole, std::vector<bool>& known) {
    double squares = 0;
    int64_t flat = r.flat_begin;
    for_each_run(r.global_shape, r.boxes, [&](int64_t global, int64_t run) {
      for (const OwnedPart& part : parts) {
        const int64_t from = std::max(flat, part.flat_begin), to = std::min(flat + run, part.flat_begin + part.count);
        for (int64_t i = from; i < to; ++i) {
          const size_t at = static_cast<size_t>(global + i - flat);
          const double value = values[part.shard_begin + i - part.flat_begin];
          const double difference = known[at] ? value - whole[at] : 0;
          // A NaN must not hide.
          squares += difference == difference ? difference * difference : HUGE_VAL;
          if (!known[at]) whole[at] = value;
          known[at] = true;
        }
      }
      flat += run;
    });
    return squares;
  }

  const TrainConfig& config_;
  Stream& s_;
  const Mesh mesh_;
  LastCall last_;
  ObserverList observers_;
  Recorder recorder_;
  ModelState model_;
  Transformer transformer_;
  TrainStep step_;
};

}  // namespace

Evidence gather_evidence(const TrainConfig& config, ProcessGroup& world, Stream& s, const EvidenceOptions& options) {
  return Run(config, world, s, options).run(options.steps);
}

}  // namespace sluice
