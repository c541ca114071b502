#pragma once

#include <algorithm>
#include <cmath>

namespace sluice::reference {

/// One parameter and its moments, updated as in loshchilov2019 algorithm 2.
struct AdamWParameter {
  double weight, m = 0, v = 0;

  bool epsilon_in_root = false;
  double change = 0, ratio = 0;  // of the last update: before learning rate and decay; gradient over the root of v

  void update(double gradient, double lr, double beta1, double beta2, double epsilon, double decay, int step) {
    m = beta1 * m + (1 - beta1) * gradient;
    v = beta2 * v + (1 - beta2) * gradient * gradient;
    const double m_hat = m / (1 - std::pow(beta1, step)), v_hat = v / (1 - std::pow(beta2, step));
    change = m_hat / (epsilon_in_root ? std::sqrt(v_hat + epsilon) : std::sqrt(v_hat) + epsilon);
    ratio = gradient / std::max(std::sqrt(v_hat), epsilon_in_root ? std::sqrt(epsilon) : epsilon);
    weight -= lr * (change + decay * weight);
  }
};

}  // namespace sluice::reference
